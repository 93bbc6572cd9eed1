"""Times the averaging of 100 MB of gradients over slow links: torch's communication hooks and ours.

    ./bazelw run //benchmarks:compression
    ./bazelw run //benchmarks:compression -- --quick
    ./bazelw run //benchmarks:compression -- --rates 1 2.5 --world-sizes 2 --repeats 5 --out .

Makes network namespaces joined by links of 1, 10 and 25 Gbit/s, so it needs root and iproute2's ip
and tc; all of it is removed in the end. Two and four ranks take turns at every side. Prints tables
and writes DATE-compression.json, .md and .png, without --out into benchmarks/results. On a quiet
2-core machine the default takes about seven minutes and, with four ranks, 9 GiB of memory; --quick
takes about one minute.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.compression_kernels import measure_kernels
from benchmarks.compression_network import NetworkError, check_tools, remove_abandoned
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
from benchmarks.options import (
    EXIT_BAD_INPUT,
    Parser,
    positive_float,
    positive_int,
)
from benchmarks.plot import png
from benchmarks.record import (
    Record,
    Row,
    finding_lines,
    new_stem,
    results_directory,
    write_all,
)
from train.interrupts import raise_on_signals, status_of

EXIT_FAILED = 1

_DISTRIBUTIONS = ("torch", "numpy")
# One veth pair or one bridge: more ranks than this on one machine measure only the machine.
_MAX_WORLD_SIZE = 8
# Below, a step takes minutes; above, no veth link is that fast.
_RATES = (0.1, 100.0)


class Preset(NamedTuple):
    """What is measured unless options say otherwise."""

    world_sizes: Sequence[int]
    rates: Sequence[float]
    repeats: int
    error_steps: int
    kernel_budget_s: float


DEFAULT = Preset((2, 4), (1.0, 10.0, 25.0), 9, 10, 2.0)
QUICK = Preset((2,), (1.0, 10.0), 3, 3, 0.5)


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = make_parser()
    args = parser.parse_args(arguments)
    directory = results_directory(args.out)
    try:
        check_tools()
        remove_abandoned()
    except NetworkError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out: cannot make the directory {directory}: {error.strerror}")
    command = shlex.join(["./bazelw", "run", "//benchmarks:compression", "--", *arguments])
    try:
        record = _run(preset(args), args.grace_s, command)
    except KeyboardInterrupt as interrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return status_of(interrupt)
    except (NetworkError, RankError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    _write(record, directory)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = Parser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--quick", action="store_true", help="two ranks, two links, about a minute")
    add("--rates", nargs="+", type=_rate, help="of the links, in Gbit/s")
    add("--world-sizes", nargs="+", type=_world_size, help="numbers of ranks")
    add("--repeats", type=positive_int, help="timed steps of each side over each link")
    add("--grace-s", type=positive_float, default=60.0, help="seconds to wait for quiet, in all")
    add("--out", "--output", type=Path, help="directory for the results")
    return parser


def preset(args: argparse.Namespace) -> Preset:
    """What the options name, with the preset's choice of the rest."""
    changes = {
        "rates": args.rates,
        "world_sizes": args.world_sizes,
        "repeats": args.repeats,
    }
    given = {name: value for name, value in changes.items() if value}
    return (QUICK if args.quick else DEFAULT)._replace(**given)


def _world_size(text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= _MAX_WORLD_SIZE:
        raise argparse.ArgumentTypeError(f"must be from 2 to {_MAX_WORLD_SIZE}, got {text!r}")
    return int(text)


def _rate(text: str) -> float:
    least, most = _RATES
    if not least <= (rate := positive_float(text)) <= most:
        raise argparse.ArgumentTypeError(f"must be from {least:g} to {most:g}, got {text!r}")
    return rate


def _run(preset: Preset, grace_s: float, command: str) -> Record:
    """Measures and prints everything."""
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


def _write(record: Record, directory: Path) -> None:
    stem = new_stem(directory, f"{datetime.now(UTC).date().isoformat()}-compression")
    image = stem.with_suffix(".png")
    drawn = panels(record.rows)
    plot = png(
        drawn,
        title=plot_title(record),
        x_label="Gbit/s of the links",
        y_label="ms",
        columns=len(drawn),
    )
    contents = {
        ".json": record.model_dump_json(indent=1).encode(),
        ".png": plot,
        ".md": markdown(record, image.name).encode(),
    }
    write_all(stem, contents)


if __name__ == "__main__":
    raise_on_signals()
    sys.exit(main(sys.argv[1:]))
