"""Times compression as the options of `//benchmarks:compression` say, printing as it goes."""

import os
import time

import torch

from benchmarks.compression_kernels import measure_kernels
from benchmarks.compression_network import NetworkError
from benchmarks.compression_presets import Preset
from benchmarks.compression_ranks import RankError
from benchmarks.compression_report import (
    HOW_ERRORS_READ,
    HOW_TO_READ,
    error_lines,
    kernel_lines,
    link_lines,
    links,
    markdown,
    missing_lines,
    noise_lines,
    panels,
    plot_title,
    setup_words,
)
from benchmarks.compression_run import Settings, measure_world
from benchmarks.compression_sides import SIDES
from benchmarks.compression_summary import findings
from benchmarks.load import Grace
from benchmarks.machine import describe_machine
from benchmarks.plot import png
from benchmarks.program import FailedError, Results
from benchmarks.record import Record, Row, finding_lines

_DISTRIBUTIONS = ("torch", "numpy")


def measure(preset: Preset, grace_s: float, command: str) -> Results:
    """Measures and prints everything.

    Raises:
      FailedError: The network cannot be made, or a rank failed.
    """
    try:
        record = _record(preset, grace_s, command)
    except (NetworkError, RankError) as error:
        raise FailedError(str(error)) from error
    drawn = panels(record.rows)
    plot = png(
        drawn,
        title=plot_title(record),
        x_label="Gbit/s of the links",
        y_label="ms",
        columns=len(drawn),
    )
    return Results(
        name="compression",
        record=record.model_dump_json(indent=1),
        plot=plot,
        page=lambda image: markdown(record, image),
    )


def _record(preset: Preset, grace_s: float, command: str) -> Record:
    start = time.monotonic()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    machine = describe_machine(_DISTRIBUTIONS)
    grace = Grace(grace_s)
    grace.wait()
    rows: list[Row] = list(measure_kernels(preset.kernel_budget_s))
    _print("", *kernel_lines(rows), "", setup_words(machine.cores), "", HOW_TO_READ)
    settings = Settings(preset.rates, preset.repeats, preset.error_steps, SIDES, grace)
    for world_size in preset.world_sizes:
        of_world: list[Row] = []
        for row in measure_world(settings, world_size, os.getpid()):
            of_world.append(row)
            if row.side == SIDES[-1] and row.timing is not None:
                _print("", *link_lines(links(of_world)[-1]))
        rows += of_world
    _print("", HOW_ERRORS_READ, "", *error_lines(rows))
    found = findings(rows)
    _print("", "Not measured", *missing_lines())
    _print("", "Findings", *finding_lines(found), *noise_lines(rows))
    return Record(
        benchmark="compression",
        command=command,
        machine=machine,
        settings={
            "repeats": preset.repeats,
            "error_steps": preset.error_steps,
            "setup": setup_words(machine.cores),
        },
        duration_s=time.monotonic() - start,
        rows=tuple(rows),
        findings=found,
    )


def _print(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)
