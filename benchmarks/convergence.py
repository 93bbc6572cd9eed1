"""Trains with compressed gradients beside float32, from the same seeds: do they end equal?

    ./bazelw run //benchmarks:convergence
    ./bazelw run //benchmarks:convergence -- --quick
    ./bazelw run //benchmarks:convergence -- --tasks bytes --world-sizes 4 --seeds 8

Trains the digits' vision transformer and a language model over the bytes of Python's standard
library, on 2 and on 4 ranks, with each way for gradients to travel. Prints a table of the ends with
a test of equivalence, and writes DATE-convergence.json, .md and .png, without --out into
benchmarks/results. On a quiet 2-core machine the default takes about 20 minutes, --quick about two.
Ends with status 1 if int8 with error feedback was seen to end elsewhere than float32, or if a rank
failed.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

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
from benchmarks.convergence_tasks import TASKS, data_digests
from benchmarks.convergence_variants import (
    FLOAT32,
    FOUR_BITS,
    FOUR_BITS_A_TENSOR,
    INT8,
    VARIANTS,
)
from benchmarks.machine import describe_machine
from benchmarks.options import Parser, positive_int
from benchmarks.record import Record, finding_lines, new_stem, results_directory, write_all
from data.stdlib_text import StdlibNotFoundError
from train.comm.torch import ranks
from train.interrupts import raise_on_signals, status_of

EXIT_DIFFERS = EXIT_RANK_FAILED = 1

_DISTRIBUTIONS = ("torch", "numpy", "scipy")

_DEFAULT_TASKS = ("digits", "bytes")

_STEPS, _QUICK_STEPS = 300, 100
# By number of ranks; four ranks on two cores are slow.
_SEEDS = {2: 5, 4: 3}
_QUICK_SEEDS = 4
_QUICK_VARIANTS = (FLOAT32, INT8, FOUR_BITS, FOUR_BITS_A_TENSOR)


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = _make_parser()
    args = parser.parse_args(arguments)
    directory = results_directory(args.out)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        digests = data_digests(args.tasks)
    except OSError as error:
        parser.error(f"--out: cannot make the directory {directory}: {error.strerror}")
    except StdlibNotFoundError as error:
        parser.error(str(error))
    try:
        record, runs = _run(args, shlex.join(arguments), digests)
    except KeyboardInterrupt as interrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return status_of(interrupt)
    except ranks.RanksError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_RANK_FAILED
    print(*comparison_lines(runs), "", HOW_TO_READ, sep="\n")
    print("", "Findings", *finding_lines(record.findings), sep="\n")
    _write(record, runs, directory)
    verdicts = [table.rows[INT8].verdict for table in compare_all(runs) if INT8 in table.rows]
    return EXIT_DIFFERS if Verdict.DIFFERS in verdicts else 0


def _make_parser() -> argparse.ArgumentParser:
    parser = Parser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--quick", action="store_true", help="few short runs on 2 ranks, about two minutes")
    add("--tasks", nargs="+", choices=list(TASKS), default=list(_DEFAULT_TASKS))
    add("--world-sizes", nargs="+", type=positive_int, help="numbers of ranks")
    add("--seeds", type=positive_int, help="runs of each variant, on each number of ranks")
    add("--steps", type=positive_int, help="of each run")
    add("--variants", nargs="+", choices=list(VARIANTS), help="besides float32")
    add("--out", type=Path, help="directory for the results")
    return parser


def _cells(args: argparse.Namespace) -> list[Cell]:
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
    chosen = args.variants or (_QUICK_VARIANTS if args.quick else VARIANTS)
    return [name for name in VARIANTS if name == FLOAT32 or name in chosen]


def _run(args: argparse.Namespace, arguments: str, digests: dict[str, str]) -> tuple[Record, Runs]:
    start = time.monotonic()
    machine = describe_machine(_DISTRIBUTIONS)
    cells, variants = _cells(args), _variants(args)
    runs: Runs = {}
    for number, cell in enumerate(cells, start=1):
        runs[cell] = run_cell(cell, variants)
        minutes = (time.monotonic() - start) / 60
        print(f"[{number} of {len(cells)}, {minutes:.1f} min] {cell_line(cell, runs[cell])}")
        sys.stdout.flush()
    tables = list(compare_all(runs))
    record = Record(
        benchmark="convergence",
        command=f"./bazelw run //benchmarks:convergence -- {arguments}".removesuffix(" -- "),
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


def _write(record: Record, runs: Runs, directory: Path) -> None:
    date = datetime.now(UTC).date().isoformat()
    stem = new_stem(directory, f"{date}-convergence")
    image = stem.with_suffix(".png")
    heading = f"Training with compressed gradients, means over seeds, {record.machine.cpu}"
    contents = {
        ".json": record.model_dump_json(indent=1).encode(),
        ".png": curves_png(runs, heading),
        ".md": markdown(record, runs, image.name).encode(),
    }
    write_all(stem, contents)


if __name__ == "__main__":
    raise_on_signals()
    sys.exit(main(sys.argv[1:]))
