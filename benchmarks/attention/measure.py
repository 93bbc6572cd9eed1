"""Measures attention as the options of `//benchmarks:attention` say, printing as it goes."""

import argparse
import os
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.attention.cases import (
    DEFAULT,
    FULL,
    QUICK,
    Case,
    Preset,
    directions,
    memory_cases,
    on_device,
    time_cases,
)
from benchmarks.attention.jax_sides import jax_sides
from benchmarks.attention.peaks import measure_memory
from benchmarks.attention.report import HOW_TO_READ, REPORT, ceiling_line, memory_lines, time_lines
from benchmarks.attention.sides import FLEX, Side
from benchmarks.attention.times import Forecast, Settings, ceilings, measure_ceilings, measure_time
from benchmarks.attention.torch_sides import torch_sides
from benchmarks.harness.load import Grace
from benchmarks.harness.machine import Machine
from benchmarks.harness.record import Row
from benchmarks.harness.suite import BadInputError, Measurement

_DISTRIBUTIONS = ("torch", "jax", "jaxlib", "numpy", "triton")
_MEMORY_DIRECTIONS = ("forward", "both")


def prepare(args: argparse.Namespace) -> Measurement:
    """Returns what the options ask for.

    Raises:
      BadInputError: There is no such device.
    """
    if args.device == "cuda" and not torch.cuda.is_available():
        raise BadInputError("--device cuda: PyTorch finds no GPU here")
    preset = _preset(args)
    settings = Settings(args.device, preset.budget_s, preset.patient, Grace(args.grace_s))
    return Measurement(
        results_name=f"attention-{args.device}",
        distributions=_DISTRIBUTIONS,
        settings={"device": args.device, "budget_s": preset.budget_s, "patient": preset.patient},
        rows=partial(_rows, settings, preset, _sides(args)),
        report=REPORT,
    )


def _preset(args: argparse.Namespace) -> Preset:
    """The preset that the options name, with what they name instead."""
    preset = on_device(QUICK if args.quick else FULL if args.full else DEFAULT, args.device)
    changes = {
        "features": args.features,
        "dtypes": args.dtypes,
        "lengths": args.lengths,
        "feature_lengths": args.lengths,
        "memory_lengths": args.lengths,
        "head_dims": args.head_dims,
        "budget_s": args.budget_s,
    }
    return preset._replace(**{name: value for name, value in changes.items() if value})


def _sides(args: argparse.Namespace) -> dict[str, Side]:
    backends = tuple(args.backends)
    sides = torch_sides(args.device, backends) | jax_sides(args.device, backends)
    if args.quick:
        del sides[FLEX]  # compiling it alone takes a minute
    return sides


def _rows(
    settings: Settings, preset: Preset, sides: dict[str, Side], machine: Machine
) -> Iterator[Row]:
    # JAX would take most of the GPU's memory at once, and leave PyTorch none.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    peaks = [
        row
        for case in memory_cases(settings.device, preset)
        for direction in _MEMORY_DIRECTIONS
        for row in measure_memory(settings.device, _applicable(sides, case), case, direction)
    ]
    yield from peaks
    print(*memory_lines(peaks), "", sep="\n", flush=True)
    products = []
    for row in measure_ceilings(settings, preset.dtypes):
        products.append(row)
        print(ceiling_line(row), flush=True)
    yield from products
    print(HOW_TO_READ)
    known, forecast = ceilings(products), Forecast()
    times: list[Row] = []
    for case in time_cases(settings.device, preset):
        of_case = _applicable(sides, case)
        for direction in directions(case):
            ceiling = known.get(case.dtype)
            printed = len(list(time_lines(times, machine)))
            times += measure_time(settings, of_case, case, direction, ceiling, forecast)
            print(*list(time_lines(times, machine))[printed:], sep="\n", flush=True)
    yield from times


def _applicable(sides: dict[str, Side], case: Case) -> dict[str, Side]:
    """Returns the sides that a case is timed on."""
    return {name: side for name, side in sides.items() if case.feature in side.features}
