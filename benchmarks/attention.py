"""Times attention beside PyTorch's, JAX's and others' own, all sides in turns in one process.

    ./bazelw run //benchmarks:attention -- --device cpu
    ./bazelw run //benchmarks:attention -- --device cpu --quick
    ./bazelw run //benchmarks:attention -- --lengths 1024 --features alibi rope --dtypes float32

Prints a table and writes DATE-attention-DEVICE.json, .md and .png, without --out into
benchmarks/results. Every peer gets its best settings: its own layout, all cores, masks made and
programs compiled beforehand; a side whose results differ from the others' is not timed. On a quiet
2-core machine the default takes about eleven minutes, --quick about one. Ends with status 1 if one
of our own sides has no result somewhere.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.attention_cases import DTYPES, FEATURES, directions
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
from benchmarks.options import Parser, positive_float, positive_int
from benchmarks.plot import png
from benchmarks.record import Record, Row, new_stem, results_directory, write_atomically
from train.interrupts import raise_on_signals, status_of

EXIT_OURS_MISSING = 1

_DISTRIBUTIONS = ("torch", "jax", "jaxlib", "numpy", "triton")
_MEMORY_DIRECTIONS = ("forward", "both")


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = _make_parser()
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no GPU here")
    directory = results_directory(args.out)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out: cannot make the directory {directory}: {error.strerror}")
    command = f"./bazelw run //benchmarks:attention -- {shlex.join(arguments)}"
    try:
        record, lines = _run(args, command)
    except KeyboardInterrupt as interrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return status_of(interrupt)
    print(*closing_lines(record), sep="\n")
    _write(record, lines, directory, args.device)
    missed = any(is_ours(row.side) and row.missing is not None for row in record.rows)
    return EXIT_OURS_MISSING if missed else 0


def _make_parser() -> argparse.ArgumentParser:
    parser = Parser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--device", default="cpu", choices=["cpu", "cuda"])
    preset = parser.add_mutually_exclusive_group()
    preset.add_argument("--quick", action="store_true", help="few cases, about a minute")
    preset.add_argument("--full", action="store_true", help="every case and peer, hours")
    add("--features", nargs="+", choices=list(FEATURES))
    add("--dtypes", nargs="+", choices=DTYPES)
    add("--lengths", nargs="+", type=positive_int, help="sequence lengths")
    add("--head-dims", nargs="+", type=_even_int, help="features besides plain take the first")
    add("--backends", nargs="+", default=[], help="of ours, timed besides the one chosen")
    add("--budget-s", type=positive_float, help="seconds for one pass of one case")
    add("--grace-s", type=positive_float, default=60.0, help="seconds to wait for quiet, in all")
    add("--out", type=Path, help="directory for the results")
    return parser


def _even_int(text: str) -> int:
    if positive_int(text) % 2:
        raise argparse.ArgumentTypeError(f"must be even, for RoPE, got {text!r}")
    return int(text)


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


def _run(args: argparse.Namespace, command: str) -> tuple[Record, list[str]]:
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


def _write(record: Record, lines: Sequence[str], directory: Path, device: str) -> None:
    date = datetime.now(UTC).date().isoformat()
    stem = new_stem(directory, f"{date}-attention-{device}")
    files = {stem.with_suffix(".json"): record.model_dump_json(indent=1).encode()}
    chip = record.machine.gpu[0] if device == "cuda" else record.machine.cpu
    image = stem.with_suffix(".png")
    if panels := ratio_panels(record.rows):
        files[image] = png(
            panels,
            title=plot_title(record.rows, chip),
            x_label="sequence length",
            y_label="times ours",
            columns=panel_columns(record.rows),
        )
    page = markdown(record, lines, image.name if panels else None)
    files[stem.with_suffix(".md")] = page.encode()
    for path, content in files.items():
        write_atomically(path, content)
        print(f"wrote {path}")


if __name__ == "__main__":
    raise_on_signals()
    sys.exit(main(sys.argv[1:]))
