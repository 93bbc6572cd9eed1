"""Tunes and trains as the options of `//benchmarks:bakeoff` say, printing as it goes."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.bakeoff.cases import DEFAULT, QUICK, Preset
from benchmarks.bakeoff.report import HOW_TO_READ, REPORT, task_lines
from benchmarks.bakeoff.results import best, run_row, runs_of, trial_row
from benchmarks.bakeoff.search import Point, search
from benchmarks.bakeoff.sides import at_point, first_guess, tuned
from benchmarks.bakeoff.train import train
from benchmarks.harness.machine import Machine
from benchmarks.harness.record import Row
from benchmarks.harness.suite import Measurement
from benchmarks.tasks.tasks import TASKS, data_digests
from optim.algorithm import Algorithm

# Seeds of the runs are counted from 0.
_TUNING_SEED = 1000


def prepare(args: argparse.Namespace) -> Measurement:
    """Returns what the options ask for.

    Raises:
      BadInputError: A task's data are not there.
    """
    preset = _preset(args)
    return Measurement(
        results_name="bakeoff",
        distributions=("torch", "numpy", "scipy"),
        settings={
            "steps": preset.steps,
            "trials": preset.trials,
            **data_digests(args.tasks),
        },
        rows=partial(_rows, args.tasks, args.optimizers, preset),
        report=REPORT,
    )


def _preset(args: argparse.Namespace) -> Preset:
    changes = {"steps": args.steps, "trials": args.trials, "seeds": args.seeds}
    given = {name: value for name, value in changes.items() if value}
    return (QUICK if args.quick else DEFAULT)._replace(**given)


def _rows(
    tasks: Sequence[str], optimizers: Sequence[str], preset: Preset, machine: Machine
) -> Iterator[Row]:
    print(HOW_TO_READ)
    for task in tasks:
        rows = list(_task_rows(task, optimizers, preset))
        (found,) = runs_of(rows)
        print("", *task_lines(found), sep="\n", flush=True)
        yield from rows


def _task_rows(task: str, optimizers: Sequence[str], preset: Preset) -> Iterator[Row]:
    points = {}
    for name in optimizers:
        guess = first_guess(name)
        start = Point(guess.learning_rate, guess.weight_decay)
        trials = search(partial(_tuning_loss, task, preset.steps, guess), start, preset.trials)
        points[name] = best(trials).point
        for number, trial in enumerate(trials):
            yield trial_row(task, preset.steps, name, number, trial)
    for side, settings in tuned(points).items():
        point = Point(settings.learning_rate, settings.weight_decay)
        losses = []
        for seed in range(preset.seeds):
            result = train(TASKS[task](seed, preset.steps), settings, seed)
            losses.append(f"{result.test_loss:.4f}")
            yield run_row(task, preset.steps, side, seed, point, result)
        _say(f"{task}, {side}, {_in_words(point)}: test losses {', '.join(losses)}")


def _tuning_loss(task: str, num_steps: int, guess: Algorithm, point: Point) -> float:
    made = TASKS[task](_TUNING_SEED, num_steps)
    loss = train(made, at_point(guess, point), _TUNING_SEED).tuning_loss
    _say(f"{task}, {guess.name}, {_in_words(point)}: tuning loss {loss:.4f}")
    return loss


def _in_words(point: Point) -> str:
    return f"rate {point.learning_rate:g}, decay {point.weight_decay:g}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
