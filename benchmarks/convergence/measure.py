"""Trains as the options of `//benchmarks:convergence` say, printing as it goes."""

import argparse
import time
from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.convergence.cases import Cell, cells_of, variants_of
from benchmarks.convergence.findings import compare_all, comparison_rows
from benchmarks.convergence.report import REPORT, cell_line
from benchmarks.convergence.results import run_row
from benchmarks.convergence.train import run_cell
from benchmarks.harness.machine import Machine
from benchmarks.harness.record import Row
from benchmarks.harness.suite import FailedError, Measurement
from benchmarks.tasks.tasks import data_digests
from comm.testing import ranks


def prepare(args: argparse.Namespace) -> Measurement:
    """Returns what the options ask for.

    Raises:
      BadInputError: A task's data are not there.
    """
    cells = cells_of(args)
    return Measurement(
        results_name="convergence",
        distributions=("torch", "numpy", "scipy"),
        settings={"steps": cells[0].num_steps, **data_digests(args.tasks)},
        rows=partial(_rows, cells, variants_of(args)),
        report=REPORT,
    )


def _rows(cells: Sequence[Cell], variants: Sequence[str], machine: Machine) -> Iterator[Row]:
    start = time.monotonic()
    rows: list[Row] = []
    for number, cell in enumerate(cells, start=1):
        try:
            results = run_cell(cell, variants)
        except ranks.RanksError as error:
            raise FailedError(str(error)) from error
        rows += [run_row(cell, result) for result in results]
        minutes = (time.monotonic() - start) / 60
        progress = f"[{number} of {len(cells)}, {minutes:.1f} min]"
        print(progress, cell_line(cell, results), flush=True)
    yield from rows
    yield from comparison_rows(compare_all(rows))
