"""Trains as the options of `//benchmarks:convergence` say, printing as it goes."""

import argparse
import sys
import time

from benchmarks.convergence_names import (
    FLOAT32,
    FOUR_BITS,
    FOUR_BITS_A_TENSOR,
    INT8,
    VARIANT_NAMES,
)
from benchmarks.convergence_report import (
    HOW_TO_READ,
    cell_line,
    comparison_lines,
    curves_png,
    markdown,
)
from benchmarks.convergence_run import Cell, run_cell
from benchmarks.convergence_statistics import Verdict
from benchmarks.convergence_summary import Runs, compare_all, findings, rows
from benchmarks.convergence_tasks import data_digests
from benchmarks.machine import describe_machine
from benchmarks.program import BadInputError, FailedError, Results
from benchmarks.record import Record, finding_lines
from comm.torch import ranks
from data.stdlib_text import StdlibNotFoundError

EXIT_DIFFERS = 1

_DISTRIBUTIONS = ("torch", "numpy", "scipy")

_STEPS, _QUICK_STEPS = 300, 100
# By number of ranks; four ranks on two cores are slow.
_SEEDS = {2: 5, 4: 3}
_QUICK_SEEDS = 4
_QUICK_VARIANTS = (FLOAT32, INT8, FOUR_BITS, FOUR_BITS_A_TENSOR)


def measure(args: argparse.Namespace, command: str) -> Results:
    """Trains, compares and prints everything.

    Raises:
      BadInputError: A task's data are not there.
      FailedError: A rank failed.
    """
    try:
        record, runs = _record(args, command, data_digests(args.tasks))
    except StdlibNotFoundError as error:
        raise BadInputError(str(error)) from error
    except ranks.RanksError as error:
        raise FailedError(str(error)) from error
    print(*comparison_lines(runs), "", HOW_TO_READ, sep="\n")
    print("", "Findings", *finding_lines(record.findings), sep="\n")
    verdicts = [table.rows[INT8].verdict for table in compare_all(runs) if INT8 in table.rows]
    heading = f"Training with compressed gradients, means over seeds, {record.machine.cpu}"
    return Results(
        name="convergence",
        record=record.model_dump_json(indent=1),
        plot=curves_png(runs, heading),
        page=lambda image: markdown(record, runs, image),
        status=EXIT_DIFFERS if Verdict.DIFFERS in verdicts else 0,
    )


def cells_of(args: argparse.Namespace) -> list[Cell]:
    """What to run: every seed is of one number of ranks only, so that all float32 runs count."""
    num_steps = args.steps or (_QUICK_STEPS if args.quick else _STEPS)
    seeds: list[tuple[int, int]] = []
    for world_size in args.world_sizes or ([2] if args.quick else list(_SEEDS)):
        count = args.seeds or (_QUICK_SEEDS if args.quick else _SEEDS.get(world_size, 3))
        seeds += [(world_size, len(seeds) + index) for index in range(count)]
    return [
        Cell(task, world_size, seed, num_steps) for task in args.tasks for world_size, seed in seeds
    ]


def _variants(args: argparse.Namespace) -> list[str]:
    """The variants in their fixed order, float32 first."""
    chosen = args.variants or (_QUICK_VARIANTS if args.quick else VARIANT_NAMES)
    return [name for name in VARIANT_NAMES if name == FLOAT32 or name in chosen]


def _record(args: argparse.Namespace, command: str, digests: dict[str, str]) -> tuple[Record, Runs]:
    start = time.monotonic()
    machine = describe_machine(_DISTRIBUTIONS)
    cells, variants = cells_of(args), _variants(args)
    runs: Runs = {}
    for number, cell in enumerate(cells, start=1):
        runs[cell] = run_cell(cell, variants)
        minutes = (time.monotonic() - start) / 60
        print(f"[{number} of {len(cells)}, {minutes:.1f} min] {cell_line(cell, runs[cell])}")
        sys.stdout.flush()
    tables = list(compare_all(runs))
    record = Record(
        benchmark="convergence",
        command=command,
        machine=machine,
        settings={
            "steps": cells[0].num_steps,
            **{f"sha256_of_{name}": digest for name, digest in digests.items()},
        },
        duration_s=time.monotonic() - start,
        rows=tuple(rows(runs, tables)),
        findings=tuple(findings(tables)),
    )
    return record, runs
