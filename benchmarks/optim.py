"""Times a step of every optimizer: ours, torch's, optax's, pytorch-optimizer's, bitsandbytes'.

    ./bazelw run //benchmarks:optim
    ./bazelw run //benchmarks:optim -- --quick
    ./bazelw run //benchmarks:optim -- --algorithms adamw lion --frameworks torch --out .

Prints tables and writes DATE-optim.json, .md and .png, without --out into benchmarks/results. On a
2-core machine the default takes about five minutes, --quick about one.
"""

import argparse
import math
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.load import Grace
from benchmarks.machine import describe_machine
from benchmarks.measure import measure_in_turns, run_once
from benchmarks.optim_report import (
    HOW_TO_READ,
    findings,
    group_lines,
    groups,
    markdown,
    panels,
)
from benchmarks.optim_sides import JAX, OURS, TORCH, Model, error_in_rates, sides
from benchmarks.options import Parser, positive_float
from benchmarks.plot import png
from benchmarks.record import (
    Record,
    Row,
    finding_lines,
    new_stem,
    results_directory,
    write_all,
)
from optim.registry import ALGORITHMS
from train.interrupts import raise_on_signals, status_of

_DISTRIBUTIONS = ("torch", "jax", "optax", "pytorch-optimizer", "bitsandbytes")

MODELS = (
    Model("small", 128, 6, 256),
    Model("medium", 384, 4, 1024),
    Model("large", 768, 4, 8192),
)
_BUDGET_S = 4.0
_QUICK_MODELS, _QUICK_BUDGET_S = MODELS[:2], 1.0


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = _make_parser()
    args = parser.parse_args(arguments)
    directory = results_directory(args.out)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out: cannot make the directory {directory}: {error.strerror}")
    command = shlex.join(["./bazelw", "run", "//benchmarks:optim", "--", *arguments])
    try:
        record = _run(args, command.removesuffix(" --"))
    except KeyboardInterrupt as interrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return status_of(interrupt)
    _write(record, directory)
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = Parser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--quick", action="store_true", help="two smaller models, about a minute")
    add("--algorithms", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    add("--frameworks", nargs="+", choices=[TORCH, JAX], default=[TORCH, JAX])
    add("--grace-s", type=positive_float, default=60.0, help="seconds to wait for quiet, in all")
    add("--out", type=Path, help="directory for the results")
    return parser


def _run(args: argparse.Namespace, command: str) -> Record:
    """Measures and prints everything."""
    start = time.monotonic()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    machine = describe_machine(_DISTRIBUTIONS)
    Grace(args.grace_s).wait()
    print(HOW_TO_READ)
    models, budget_s = (_QUICK_MODELS, _QUICK_BUDGET_S) if args.quick else (MODELS, _BUDGET_S)
    rows: list[Row] = []
    for algorithm in args.algorithms:
        for framework in args.frameworks:
            for model in models:
                rows += _measure(framework, algorithm, model, budget_s)
                print("", *group_lines(groups(rows)[-1]), sep="\n", flush=True)
    found = findings(rows)
    print("", "Findings, the least over the models", *finding_lines(found), sep="\n", flush=True)
    return Record(
        benchmark="optim",
        command=command,
        machine=machine,
        settings={"budget_s": budget_s},
        duration_s=time.monotonic() - start,
        rows=tuple(rows),
        findings=found,
    )


def _measure(framework: str, algorithm: str, model: Model, budget_s: float) -> Iterator[Row]:
    all_sides = dict(sides(framework, algorithm, model))
    first_s, differs, expected = {}, {}, None
    for name, side in all_sides.items():
        result, _ = run_once(side.step)
        weights = side.step.arrays(result)
        expected = [x.copy() for x in weights] if expected is None else expected
        differs[name] = error_in_rates(weights, expected)
        _, first_s[name] = run_once(side.step)  # without compilation
    timings = measure_in_turns(
        {name: side.step for name, side in all_sides.items()}, first_s, budget_s=budget_s
    )
    num_weights = sum(math.prod(shape) for shape in model.shapes)
    for name, side in all_sides.items():
        yield Row(
            table="step",
            case={
                "algorithm": algorithm,
                "framework": framework,
                "model": model.name,
                "weights": num_weights,
                "tensors": len(model.shapes),
            },
            step="update",
            side=name,
            timing=timings[name],
            metrics={
                "times_ours": timings[name].median_ms / timings[OURS].median_ms,
                "state_bytes_per_weight": side.state_bytes() / num_weights,
                "differs_in_rates": differs[name],
            },
        )


def _write(record: Record, directory: Path) -> None:
    stem = new_stem(directory, f"{datetime.now(UTC).date().isoformat()}-optim")
    image = stem.with_suffix(".png")
    drawn = panels(record.rows)
    plot = png(
        drawn,
        title=f"Time of a step, {record.machine.cores} cores of {record.machine.cpu}",
        x_label="million weights",
        y_label="ms",
        columns=min(len(drawn), 2),
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
