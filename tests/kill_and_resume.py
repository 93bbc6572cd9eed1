"""Trains, is killed by SIGKILL again and again, repeats the same command, and compares digests.

    ./bazelw run //tests:kill_and_resume -- --framework torch --kills 10

The run evaluates and saves on its way, and all that has to be remembered beside weights is on: a
moving average, early stopping, a learning rate that falls on a plateau. It is killed at moments
drawn at random, in steps, saves and evaluations, and started again by the very command until it
ends. Its weights must be those, to the bit, of a run that nobody disturbed, and no more steps may
have been lost than lie between two checkpoints, and those made while one was being written.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import numpy as np
import typer

from base.program import EXIT_FAILED, end_with_error
from registry.artifact import load
from train.checkpoint.run_directory import ARTIFACT, CHECKPOINTS

EVERY_STEPS = 3

# One save may be under way while the next is due, and a kill takes that under way along.
MOST_LOST = 2 * EVERY_STEPS

_EVALUATE_EVERY = 4

_SETTINGS = (
    "run.log_every_steps=1",
    f"checkpoint.every_steps={EVERY_STEPS}",
    f"evaluation.every_steps={_EVALUATE_EVERY}",
    "ema.decay=0.9",
    "callbacks.early_stopping.patience=1000",  # it keeps the best, and never stops
    "callbacks.reduce_on_plateau.patience=2",
)

# What is waited for is over in less, most of the time.
_MOST_DELAY_S = 0.02


class Framework(StrEnum):
    """What trains."""

    FLAX = "flax"
    TORCH = "torch"


class Place(StrEnum):
    """What a run is at."""

    STEP = "step"
    SAVE = "save"
    EVALUATION = "evaluation"


class Kill(NamedTuple):
    """One interruption.

    Attributes:
        place: What the run was at, as far as its directory and its output tell.
        step: The last that was reported before.
        resumed: The step from which the next process went on; 0: from the first.
    """

    place: Place
    step: int
    resumed: int

    @property
    def lost(self) -> int:
        """Steps that were made in vain."""
        return max(0, self.step - self.resumed)


class Moment(NamedTuple):
    """When a process is killed.

    Attributes:
        reports: Steps that it has reported.
        place: What it comes to next.
        delay_s: Seconds after that.
    """

    reports: int
    place: Place
    delay_s: float


class Result(NamedTuple):
    """What became of a run that was killed.

    Attributes:
        kills: In their order.
        is_same: Whether its weights are those of a run that was not.
    """

    kills: list[Kill]
    is_same: bool


class _Attempt(NamedTuple):
    """One process of a run: from which step it went on, the last it reported, where it ended."""

    resumed: int
    last: int
    place: Place | None


def kill_and_resume(
    framework: Framework, config: Path, directory: Path, *, kills: int, seed: int, nproc: int = 1
) -> Result:
    """Trains undisturbed and killed.

    Args:
        framework: What trains.
        config: YAML file; it is evaluated, saved and reported every few steps, whatever it says.
        directory: For both runs.
        kills: How often; fewer if the run ends before.
        seed: Of the moments.
        nproc: Ranks.
    """
    rng = np.random.default_rng(seed)
    command = [sys.executable, "-m", f"train.main_{framework}", "--config", str(config)]
    command += ["--nproc", str(nproc)]
    command += [word for setting in _SETTINGS for word in ("--set", setting)]
    whole, killed = directory / "whole", directory / "killed"
    _train(command, whole, None)
    attempts: list[_Attempt] = []
    while not (killed / ARTIFACT).exists():
        moment = _draw(rng) if len(attempts) < kills else None
        attempts.append(_train(command, killed, moment))
    found = [
        Kill(before.place, max(before.resumed, before.last), after.resumed)
        for before, after in pairwise(attempts)
        if before.place is not None
    ]
    tensors, others = (load(place / ARTIFACT).tensors for place in (whole, killed))
    same = tensors.keys() == others.keys() and all(
        tensor.tobytes() == others[name].tobytes() for name, tensor in tensors.items()
    )
    return Result(found, same)


def _draw(rng: np.random.Generator) -> Moment:
    place = list(Place)[rng.integers(len(Place))]
    return Moment(int(rng.integers(1, 9)), place, rng.uniform(0.0, _MOST_DELAY_S))


def _train(command: list[str], run: Path, moment: Moment | None) -> _Attempt:
    """Trains until the end, or is killed at a moment before."""
    lines: list[str] = []
    command = [*command, "--output", str(run)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None  # it is a pipe
        for line in process.stdout:
            lines.append(line)
            if moment is not None and _is_at(moment, lines):
                _wait_until_killed(process, run, moment)
                break
        stdout, stderr = process.communicate()
    lines += stdout.splitlines()
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {stderr}")
    resumed = [int(number.replace(",", "")) for number in _found(_RESUMED, lines)]
    steps = [int(number) for number in _found(_STEP, lines)]
    place = _place(run, lines) if process.returncode else None
    return _Attempt(max(resumed, default=0), max(steps, default=0), place)


_RESUMED = re.compile(r"goes on after ([\d,]+) steps")
_STEP = re.compile(r"step +(\d+)/")


def _found(pattern: re.Pattern[str], lines: list[str]) -> list[str]:
    return [match[1] for line in lines if (match := pattern.match(line))]


def _is_at(moment: Moment, lines: list[str]) -> bool:
    """Whether as many steps are reported, and the last one is followed by what is waited for."""
    steps = _found(_STEP, lines)
    if len(steps) < moment.reports or not _STEP.match(lines[-1]):
        return False
    return moment.place != Place.EVALUATION or int(steps[-1]) % _EVALUATE_EVERY == 0


def _wait_until_killed(process: subprocess.Popen[str], run: Path, moment: Moment) -> None:
    """Kills a process and its ranks at the moment, or after it has ended."""
    if moment.place == Place.SAVE:
        while process.poll() is None and not _is_saving(run):
            time.sleep(0.0005)
    time.sleep(moment.delay_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _is_saving(run: Path) -> bool:
    return any((run / CHECKPOINTS).glob(".partial-*"))


def _place(run: Path, lines: list[str]) -> Place:
    """Returns what a run was at that was killed, after these lines."""
    if _is_saving(run):
        return Place.SAVE
    steps = _found(_STEP, lines[-1:])
    is_evaluating = steps and int(steps[0]) % _EVALUATE_EVERY == 0
    return Place.EVALUATION if is_evaluating else Place.STEP


def main(
    framework: Annotated[Framework, typer.Option(help="What trains.")] = Framework.FLAX,
    kills: Annotated[int, typer.Option(min=1, help="How often it is killed.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    nproc: Annotated[int, typer.Option(min=1, help="Ranks.")] = 1,
    config: Annotated[Path, typer.Option(help="YAML file.")] = Path("config/digits.yaml"),
) -> None:
    """Kill a run again and again, and hold what it publishes to that of one left in peace."""
    with TemporaryDirectory() as directory:
        result = kill_and_resume(
            framework, config, Path(directory), kills=kills, seed=seed, nproc=nproc
        )
    print(*_table(result.kills), sep="\n")
    if not result.is_same:
        end_with_error("the weights differ from those of the run that was not killed", EXIT_FAILED)
    print("the weights are those of the run that was not killed, to the bit")


def _table(kills: list[Kill]) -> Iterator[str]:
    """Yields a line for each kill, and what they come to."""
    yield "kill  in          after step  went on after  lost"
    for number, kill in enumerate(kills, start=1):
        yield f"{number:>4}  {kill.place:<10}  {kill.step:>10}  {kill.resumed:>13}  {kill.lost:>4}"
    counts = Counter(kill.place for kill in kills)
    places = ", ".join(f"{counts[place]} in {place}s" for place in Place)
    lost = [kill.lost for kill in kills]
    yield f"{len(kills)} kills: {places}; lost {max(lost, default=0)} steps at most"


if __name__ == "__main__":
    typer.run(main)
