"""Measures attention as the options of `//benchmarks:attention` say, printing as it goes."""

import argparse
import os
import time
from collections.abc import Iterator

import torch

from benchmarks.attention_cases import directions
from benchmarks.attention_jax import jax_sides
from benchmarks.attention_presets import (
    DEFAULT,
    FULL,
    QUICK,
    Preset,
    memory_cases,
    on_device,
    time_cases,
)
from benchmarks.attention_report import (
    HOW_TO_READ,
    ceiling_line,
    closing_lines,
    heading,
    markdown,
    memory_lines,
    panel_columns,
    plot_title,
    ratio_panels,
    section_title,
    time_line,
)
from benchmarks.attention_run import (
    Forecast,
    Settings,
    applicable,
    ceilings,
    measure_ceilings,
    measure_memory,
    measure_time,
)
from benchmarks.attention_sides import FLEX, Side, is_ours
from benchmarks.attention_summary import findings
from benchmarks.attention_torch import torch_sides
from benchmarks.load import Grace
from benchmarks.machine import Machine, describe_machine
from benchmarks.plot import png
from benchmarks.program import BadInputError, Results
from benchmarks.record import Record, Row

EXIT_OURS_MISSING = 1

_DISTRIBUTIONS = ("torch", "jax", "jaxlib", "numpy", "triton")
_MEMORY_DIRECTIONS = ("forward", "both")


def measure(args: argparse.Namespace, command: str) -> Results:
    """Measures and prints everything.

    Raises:
      BadInputError: There is no such device.
    """
    if args.device == "cuda" and not torch.cuda.is_available():
        raise BadInputError("--device cuda: PyTorch finds no GPU here")
    record, lines = _record(args, command)
    print(*closing_lines(record), sep="\n")
    missed = any(is_ours(row.side) and row.missing is not None for row in record.rows)
    plot = _plot(record, args.device)
    return Results(
        name=f"attention-{args.device}",
        record=record.model_dump_json(indent=1),
        plot=plot,
        page=lambda image: markdown(record, lines, None if plot is None else image),
        status=EXIT_OURS_MISSING if missed else 0,
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


def _record(args: argparse.Namespace, command: str) -> tuple[Record, list[str]]:
    """Returns everything that was measured, and the lines of the table of times."""
    start = time.monotonic()
    # JAX would take most of the GPU's memory at once, and leave PyTorch none.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    machine: Machine = describe_machine(_DISTRIBUTIONS)
    preset, sides = _preset(args), _sides(args)
    settings = Settings(args.device, preset.budget_s, preset.patient, Grace(args.grace_s))
    rows: list[Row] = []
    for case in memory_cases(args.device, preset):
        for direction in _MEMORY_DIRECTIONS:
            rows += measure_memory(settings, sides, case, direction)
    print(*memory_lines(rows), "", sep="\n", flush=True)
    for row in measure_ceilings(settings, preset.dtypes):
        rows.append(row)
        print(ceiling_line(row), flush=True)
    print(HOW_TO_READ)
    lines: list[str] = []
    for line in _measure_times(settings, sides, preset, rows):
        lines.append(line)
        print(line, flush=True)
    gpus = machine.gpu if args.device == "cuda" else ()
    record = Record(
        benchmark="attention",
        command=command,
        machine=machine,
        settings={"device": args.device, "budget_s": preset.budget_s, "patient": preset.patient},
        duration_s=time.monotonic() - start,
        rows=tuple(rows),
        findings=findings(rows, gpus),
    )
    return record, lines


def _measure_times(
    settings: Settings, sides: dict[str, Side], preset: Preset, rows: list[Row]
) -> Iterator[str]:
    """Adds the rows of the cases to `rows`; yields the lines of the table as they come."""
    known_ceilings = ceilings(rows)
    forecast = Forecast()
    title = ""
    for case in time_cases(settings.device, preset):
        if title != section_title(case):
            title = section_title(case)
            yield from ("", title, heading(list(applicable(sides, case))))
        ceiling = known_ceilings.get(case.dtype)
        for direction in directions(case):
            found = measure_time(settings, sides, case, direction, ceiling, forecast)
            rows += found
            yield time_line(found)


def _plot(record: Record, device: str) -> bytes | None:
    panels = ratio_panels(record.rows)
    if not panels:
        return None
    chip = record.machine.gpu[0] if device == "cuda" else record.machine.cpu
    return png(
        panels,
        title=plot_title(record.rows, chip),
        x_label="sequence length",
        y_label="times ours",
        columns=panel_columns(record.rows),
    )
