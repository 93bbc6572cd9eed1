"""Tunes and trains as the options of `//benchmarks:bakeoff` say, printing as it goes."""

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial

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
from benchmarks.program import BadInputError, Results
from benchmarks.record import Record
from data.stdlib_text import StdlibNotFoundError
from optim.algorithm import Algorithm

_DISTRIBUTIONS = ("torch", "numpy", "scipy")

# Seeds of the runs are counted from 0.
_TUNING_SEED = 1000

_STEPS, _TRIALS, _SEEDS = 300, 12, 5
_QUICK_STEPS, _QUICK_TRIALS, _QUICK_SEEDS = 100, 5, 3


def measure(args: argparse.Namespace, command: str) -> Results:
    """Tunes, trains and prints everything.

    Raises:
      BadInputError: A task's data are not there.
    """
    try:
        digests = data_digests(args.tasks)
    except StdlibNotFoundError as error:
        raise BadInputError(str(error)) from error
    record, all_runs = _record(args, command, digests)
    return Results(
        name="bakeoff",
        record=record.model_dump_json(indent=1),
        plot=plot(all_runs, "Tuned optimizers, means over seeds"),
        page=lambda image: markdown(record, all_runs, image),
    )


def _record(
    args: argparse.Namespace, command: str, digests: dict[str, str]
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
        command=command,
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
