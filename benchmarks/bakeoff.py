"""Which optimizer ends lower: each tuned by as many trials, compared over several seeds.

    ./bazelw run //benchmarks:bakeoff
    ./bazelw run //benchmarks:bakeoff -- --quick
    ./bazelw run //benchmarks:bakeoff -- --tasks bytes --optimizers adamw lion --trials 20

Trains a vision transformer and a convolutional network on the digits, and a language model over the
bytes of Python's standard library. Learning rate and decay of each optimizer are tuned by the same
number of trials; then it trains from several seeds, and once more with its state in 8 bits. Prints
tables with deviations and significance, and writes DATE-bakeoff.json, .md and .png, without --out
into benchmarks/results. On a 2-core machine the default takes about 35 minutes, --quick about six.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks.bakeoff_report import (
    EIGHT_BITS,
    HOW_TO_READ,
    TaskRuns,
    best,
    findings,
    markdown,
    plot,
    rows,
    task_lines,
)
from benchmarks.bakeoff_run import train
from benchmarks.bakeoff_search import Point, search
from benchmarks.convergence_tasks import TASKS, data_digests, digits_preset
from benchmarks.machine import describe_machine
from benchmarks.options import Parser, positive_int
from benchmarks.record import Record, new_stem, results_directory, write_all
from data.stdlib_text import StdlibNotFoundError
from optim.algorithm import Algorithm
from optim.registry import ALGORITHMS
from train.interrupts import raise_on_signals, status_of

_DISTRIBUTIONS = ("torch", "numpy", "scipy")

# Seeds of the runs are counted from 0.
_TUNING_SEED = 1000

_STEPS, _TRIALS, _SEEDS = 300, 12, 5
_QUICK_STEPS, _QUICK_TRIALS, _QUICK_SEEDS = 100, 5, 3


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
        record, all_runs = _run(args, shlex.join(arguments), digests)
    except KeyboardInterrupt as interrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return status_of(interrupt)
    _write(record, all_runs, directory)
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = Parser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--quick", action="store_true", help="few short runs, about four minutes")
    add("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    add("--optimizers", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    add("--trials", type=positive_int, help="to tune each optimizer by, for each task")
    add("--seeds", type=positive_int, help="runs of each tuned optimizer")
    add("--steps", type=positive_int, help="of each run")
    add("--out", type=Path, help="directory for the results")
    return parser


def _run(
    args: argparse.Namespace, arguments: str, digests: dict[str, str]
) -> tuple[Record, list[TaskRuns]]:
    start = time.monotonic()
    machine = describe_machine(_DISTRIBUTIONS)
    num_steps = args.steps or (_QUICK_STEPS if args.quick else _STEPS)
    num_trials = args.trials or (_QUICK_TRIALS if args.quick else _TRIALS)
    num_seeds = args.seeds or (_QUICK_SEEDS if args.quick else _SEEDS)
    print(HOW_TO_READ)
    all_runs = []
    for task in args.tasks:
        found = _run_task(task, args.optimizers, num_steps, num_trials, list(range(num_seeds)))
        print("", *task_lines(found), sep="\n", flush=True)
        all_runs.append(found)
    record = Record(
        benchmark="bakeoff",
        command=f"./bazelw run //benchmarks:bakeoff -- {arguments}".removesuffix(" -- "),
        machine=machine,
        settings={
            "steps": num_steps,
            "trials": num_trials,
            **{f"sha256_of_{name}": digest for name, digest in digests.items()},
        },
        duration_s=time.monotonic() - start,
        rows=tuple(rows(all_runs)),
        findings=findings(all_runs),
    )
    return record, all_runs


def _run_task(
    task: str, optimizers: Sequence[str], num_steps: int, num_trials: int, seeds: list[int]
) -> TaskRuns:
    found = TaskRuns(task, num_steps, seeds, {}, {})
    for name in optimizers:
        first = _first_guess(name)
        start = Point(first.learning_rate, first.weight_decay)
        found.trials[name] = search(partial(_tuning_loss, found, first), start, num_trials)
    for bits in (32, 8):
        for name in optimizers:
            point = best(found.trials[name])
            update = {**point._asdict(), "state_bits": bits}
            settings = _first_guess(name).model_copy(update=update)
            side = name if bits == 32 else name + EIGHT_BITS
            found.runs[side] = [
                train(TASKS[task](seed, num_steps), settings, seed) for seed in seeds
            ]
            losses = ", ".join(f"{run.test_loss:.4f}" for run in found.runs[side])
            _say(f"{task}, {side}, {_in_words(point)}: test losses {losses}")
    return found


def _first_guess(name: str) -> Algorithm:
    settings: Algorithm = getattr(digits_preset().optimizer, name)
    return settings


def _tuning_loss(found: TaskRuns, first: Algorithm, point: Point) -> float:
    task = TASKS[found.task](_TUNING_SEED, found.num_steps)
    run = train(task, first.model_copy(update=point._asdict()), _TUNING_SEED)
    _say(f"{found.task}, {first.name}, {_in_words(point)}: tuning loss {run.tuning_loss:.4f}")
    return run.tuning_loss


def _in_words(point: Point) -> str:
    return f"rate {point.learning_rate:g}, decay {point.weight_decay:g}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _write(record: Record, all_runs: list[TaskRuns], directory: Path) -> None:
    stem = new_stem(directory, f"{datetime.now(UTC).date().isoformat()}-bakeoff")
    image = stem.with_suffix(".png")
    contents = {
        ".json": record.model_dump_json(indent=1).encode(),
        ".png": plot(all_runs, "Tuned optimizers, means over seeds"),
        ".md": markdown(record, all_runs, image.name).encode(),
    }
    write_all(stem, contents)


if __name__ == "__main__":
    raise_on_signals()
    sys.exit(main(sys.argv[1:]))
