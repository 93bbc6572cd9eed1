"""Trains, is killed by SIGKILL again and again, repeats the same command, and compares digests.

    ./bazelw run //tests:kill_and_resume -- --framework torch --kills 10

The run is killed at moments drawn at random, in steps and in saves, and started again by the very
command until it ends. Its weights must be those, to the bit, of a run that nobody disturbed, and
no more steps may have been lost than lie between two checkpoints.
"""

import os
import re
import signal
import subprocess
import sys
import time
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import numpy as np
import typer

from base.program import EXIT_FAILED, end_with_error
from registry.artifact import load

EVERY_STEPS = 3


class Framework(StrEnum):
    """What trains."""

    FLAX = "flax"
    TORCH = "torch"


class Kill(NamedTuple):
    """One interruption.

    Attributes:
        step: The last that was reported before.
        resumed: The step from which the next process went on; 0: from the first.
    """

    step: int
    resumed: int


class Moment(NamedTuple):
    """When a process is killed.

    Attributes:
        reports: Steps that it has reported.
        delay_s: Seconds after the last of them.
    """

    reports: int
    delay_s: float


class Result(NamedTuple):
    """What became of a run that was killed.

    Attributes:
        kills: In their order.
        is_same: Whether its weights are those of a run that was not.
    """

    kills: list[Kill]
    is_same: bool


def kill_and_resume(
    framework: Framework, config: Path, directory: Path, *, kills: int, seed: int, nproc: int = 1
) -> Result:
    """Trains undisturbed and killed.

    Args:
        framework: What trains.
        config: YAML file; every step is reported and every few are saved, whatever it says.
        directory: For both runs.
        kills: How often.
        seed: Of the moments.
        nproc: Ranks.
    """
    rng = np.random.default_rng(seed)
    command = [sys.executable, "-m", f"train.main_{framework}", "--config", str(config)]
    command += ["--nproc", str(nproc), "--set", "run.log_every_steps=1"]
    command += ["--set", f"checkpoint.every_steps={EVERY_STEPS}", "--output"]
    _train([*command, str(directory / "whole")], None)
    found, before = [], None
    for number in range(kills + 1):
        moment = Moment(int(rng.integers(1, 9)), rng.uniform(0.0, 0.05)) if number < kills else None
        resumed, last = _train([*command, str(directory / "killed")], moment)
        if before is not None:
            found.append(Kill(before, resumed))
        before = max(resumed, last)
    whole, killed = (load(directory / name / "artifact") for name in ("whole", "killed"))
    same = whole.tensors.keys() == killed.tensors.keys() and all(
        tensor.tobytes() == killed.tensors[name].tobytes() for name, tensor in whole.tensors.items()
    )
    return Result(found, same)


def _train(command: list[str], moment: Moment | None) -> tuple[int, int]:
    """Trains until the end, or is killed at a moment before.

    Returns:
        From which step it went on, and the last that it reported.
    """
    resumed = last = reports = 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None  # it is a pipe
        for line in process.stdout:
            if found := re.match(r"goes on after ([\d,]+) steps", line):
                resumed = int(found[1].replace(",", ""))
            if found := re.match(r"step +(\d+)/", line):
                last, reports = int(found[1]), reports + 1
            if moment is not None and reports == moment.reports:
                time.sleep(moment.delay_s)
                os.killpg(process.pid, signal.SIGKILL)
                break
        _, stderr = process.communicate()
    if moment is None and process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {stderr}")
    return resumed, last


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
    for number, kill in enumerate(result.kills, start=1):
        print(
            f"kill {number}: after step {kill.step} or later, went on after {kill.resumed}, "
            f"lost {max(0, kill.step - kill.resumed)}"
        )
    if not result.is_same:
        end_with_error("the weights differ from those of the run that was not killed", EXIT_FAILED)
    print("the weights are those of the run that was not killed, to the bit")


if __name__ == "__main__":
    typer.run(main)
