"""Measures how much memory the sides of the attention benchmark take at their peak."""

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from benchmarks.attention.cases import MEMORY_TABLE, Case, make_inputs
from benchmarks.attention.jax_sides import planned_bytes
from benchmarks.attention.sides import Side, UnavailableError, reason
from benchmarks.harness.memory import MemoryUnknownError, peak_bytes_in_child
from benchmarks.harness.record import Row
from benchmarks.harness.timing import Step, run_once

# The share of the free memory that one side may take.
_MEMORY_SHARE = 0.6

_MIB = 2**20


def measure_memory(
    device: str, sides: Mapping[str, Side], case: Case, direction: str
) -> Iterator[Row]:
    """Measures what each side takes at its peak beyond its inputs, results included.

    On the CPU each side runs in a process forked for it, so this comes before anything computes.
    """
    for name, side in sides.items():
        row = Row(table=MEMORY_TABLE, case=case.describe(), step=direction, side=name)
        prepare = functools.partial(_prepare_warm, side, case, direction)
        try:
            check_memory(device, side, case)
            peak = _peak_bytes(device, prepare)
        except Exception as error:
            yield row.model_copy(update={"missing": reason(error)})
        else:
            yield row.model_copy(update={"metrics": {"peak_mib": peak / _MIB}})


def check_memory(device: str, side: Side, case: Case) -> None:
    """Raises UnavailableError where a side's scores would fill most of the free memory."""
    sizes = case.sizes
    scores = 4 * sizes.batch * sizes.num_heads * sizes.seq_q * sizes.seq_k
    needed = side.score_arrays * scores
    if needed > _MEMORY_SHARE * _free_bytes(device):
        raise UnavailableError(f"needs about {needed / 2**30:.0f} GiB for its scores")


def _free_bytes(device: str) -> float:
    if device == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return 1024.0 * int(line.split()[1])
    raise MemoryUnknownError("/proc/meminfo has no MemAvailable")


def _prepare_warm(side: Side, case: Case, direction: str) -> Step:
    """Makes a step after a small one has run, so that what a library loads once does not count."""
    sizes = case.sizes._replace(batch=1, seq_q=min(case.sizes.seq_q, 64), seq_k=64)
    small = case._replace(sizes=sizes)
    warm = side.prepare(small, make_inputs(small), direction)
    run_once(warm)
    return warm if small == case else side.prepare(case, make_inputs(case), direction)


def _peak_bytes(device: str, prepare: Callable[[], Step]) -> int:
    if device == "cpu":
        return peak_bytes_in_child(prepare)
    step = prepare()
    if isinstance(step.run, functools.partial):
        return planned_bytes(step)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run_once(step)
    return torch.cuda.max_memory_allocated() - before
