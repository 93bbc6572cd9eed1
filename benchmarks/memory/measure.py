"""Measures memory as the options of `//benchmarks:memory` say, printing as it goes."""

from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.harness.machine import Machine
from benchmarks.harness.record import Row
from benchmarks.harness.suite import Measurement
from benchmarks.memory.cases import BATCH_SIZE, TORCH, WAYS
from benchmarks.memory.report import HOW_TO_READ, REPORT, table
from benchmarks.memory.sides import jax_peak_bytes, torch_peak_bytes


def prepare(frameworks: Sequence[str], depths: Sequence[int]) -> Measurement:
    """Returns what the options ask for."""
    return Measurement(
        results_name="memory",
        distributions=("torch", "jax", "flax"),
        settings={"batch_size": BATCH_SIZE},
        rows=partial(_rows, frameworks, depths),
        report=REPORT,
    )


def _rows(frameworks: Sequence[str], depths: Sequence[int], machine: Machine) -> Iterator[Row]:
    print(HOW_TO_READ)
    for framework in frameworks:
        peak_bytes = torch_peak_bytes if framework == TORCH else jax_peak_bytes
        for network in dict.fromkeys(way.network for way in WAYS):
            rows = [
                Row(
                    table="memory",
                    case={"framework": framework, "network": network, "blocks": depth},
                    step="training",
                    side=way.side,
                    metrics={"peak_bytes": peak_bytes(way, depth)},
                )
                for way in WAYS
                if way.network == network
                for depth in depths
            ]
            print("", *table(rows), sep="\n", flush=True)
            yield from rows
