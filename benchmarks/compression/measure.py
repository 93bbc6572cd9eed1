"""Times compression as `//benchmarks:compression` is asked to, printing as it goes."""

import os
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.compression.cases import SIDES, TIME_TABLE, Preset
from benchmarks.compression.kernels import measure_kernels
from benchmarks.compression.network import NetworkError
from benchmarks.compression.ranks import RankError
from benchmarks.compression.report import (
    HOW_TO_READ,
    REPORT,
    kernel_lines,
    link_lines,
    links,
    setup_words,
)
from benchmarks.compression.times import measure_world
from benchmarks.harness.load import Grace
from benchmarks.harness.machine import Machine
from benchmarks.harness.record import Row
from benchmarks.harness.suite import FailedError, Measurement


def prepare(preset: Preset, grace_s: float) -> Measurement:
    """Returns what to measure.

    Args:
      preset: What the options ask for.
      grace_s: Time to wait for a quiet machine, in all.
    """
    return Measurement(
        results_name="compression",
        distributions=("torch", "numpy"),
        settings={
            "repeats": preset.repeats,
            "error_steps": preset.error_steps,
            "setup": setup_words(len(os.sched_getaffinity(0))),
        },
        rows=partial(_rows, preset, Grace(grace_s)),
        report=REPORT,
    )


def _rows(preset: Preset, grace: Grace, machine: Machine) -> Iterator[Row]:
    torch.set_num_threads(machine.cores)
    grace.wait()
    kernels = list(measure_kernels(preset.kernel_budget_s))
    yield from kernels
    _print("", *kernel_lines(kernels), "", setup_words(machine.cores), "", HOW_TO_READ)
    try:
        for world_size in preset.world_sizes:
            of_world: list[Row] = []
            for row in measure_world(preset, grace, world_size, os.getpid()):
                of_world.append(row)
                if row.table == TIME_TABLE and row.side == SIDES[-1]:
                    _print("", *link_lines(links(of_world)[-1], machine))
            yield from of_world
    except (NetworkError, RankError) as error:
        raise FailedError(str(error)) from error


def _print(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)
