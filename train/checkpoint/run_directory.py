"""A run's place on disk: what it is of, its checkpoints, and what it published.

run.json      the framework and the configuration, from its start on
lock          held by the process that works here, which it names
checkpoints/  see store.py
evaluations/  see train/evaluation_files.py
metrics.jsonl all that was told, see train/callbacks/json_lines.py
tensorboard/  curves, see train/callbacks/event_files.py
profile/      traced steps, see train/callbacks/profiler.py
artifact/     the trained model, once the run has ended
"""

import fcntl
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from base.files import make_directory, rehearse_directory, write_file
from models.network import Framework
from train.checkpoint.store import CheckpointStore
from train.config.schema import TrainConfig
from train.evaluation_files import CONFUSION_MATRIX, files_after

DESCRIPTION = "run.json"
LOCK = "lock"
CHECKPOINTS = "checkpoints"
EVALUATIONS = "evaluations"
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
PROFILE = "profile"
ARTIFACT = "artifact"
# Written from a run's first step on, to be read; nothing goes on from them.
_RECORDS = (EVALUATIONS, METRICS, TENSORBOARD, PROFILE)
_SET_ASIDE = "set-aside"

_FORMAT = "hpc training run 1"

# What a run may have otherwise when it goes on: it learns the same. All that begins so.
MAY_DIFFER = (
    "artifact.programs",
    "run.log_every_steps",
    "callbacks.metrics.",
    "callbacks.profiler.",
    "callbacks.resources.",
    "checkpoint.",
    "torch.num_threads",
    "callbacks.watch.compare_ranks_every_steps",
    "callbacks.watch.hang_timeout_s",
    "zero.",
)


class RunDirectoryError(Exception):
    """A directory in which this run cannot go on, or begin; and what to do."""


@dataclass(frozen=True)
class RunDirectory:
    """A directory that this process has claimed.

    Attributes:
        path: Where it is.
        started_at: When the run began, with a time zone.
    """

    path: Path
    started_at: datetime

    @property
    def checkpoints(self) -> CheckpointStore:
        """Of the run."""
        return CheckpointStore(self.path / CHECKPOINTS)

    @property
    def artifact(self) -> Path:
        """Where the trained model is, once it is published."""
        return self.path / ARTIFACT

    def leave_after(self, step: int) -> None:
        """Sets aside what the run had after so many steps, from where it is to go on otherwise."""
        evaluations = self.path / EVALUATIONS
        later = [*files_after(evaluations, step), evaluations / CONFUSION_MATRIX]
        _set_aside(self.path, [ARTIFACT, *(str(path.relative_to(self.path)) for path in later)])
        self.checkpoints.leave_after(step)


def check_run_directory(
    path: Path,
    config: TrainConfig,
    framework: Framework,
    *,
    fresh: bool = False,
    init_from: str | None = None,
) -> None:
    """Checks that a run can begin or go on at `path`, before a framework is imported.

    Args:
        path: As of `claim`, as are the others.
        config: Of the run.
        framework: That computes.
        fresh: Whether what is there will be set aside.
        init_from: Digest of the artifact that it begins from, if any.

    Raises:
        RunDirectoryError: It is of something else, of another run, or in use, or it cannot be made.
    """
    try:
        if path.is_dir() and any(path.iterdir()):
            if not (fresh and (path / DESCRIPTION).exists()):
                _check_description(path, config, framework, init_from)
            if (lock := path / LOCK).exists():
                with lock.open("r+") as file:
                    _lock(file, path)
        elif os.path.lexists(path) and not path.is_dir():  # a file, or a link to nowhere
            raise RunDirectoryError(f"{path} is no directory; choose a new one, or one of a run")
        else:
            rehearse_directory(path / CHECKPOINTS / f".partial-step-{0:012}" / "state" / ("x" * 64))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RunDirectoryError(
            f"cannot train in {path}: {reason}; choose a directory that can be written"
        ) from error


@contextmanager
def claim(
    path: Path,
    config: TrainConfig,
    framework: Framework,
    *,
    fresh: bool = False,
    init_from: str | None = None,
) -> Iterator[RunDirectory]:
    """Makes a run's directory, or takes the one that is there, for this process alone.

    Args:
        path: A new directory, an empty one, or one of a run of the same configuration.
        config: Of the run.
        framework: That computes.
        fresh: Set aside what is there of a run, of any configuration.
        init_from: Digest of the artifact that it begins from, if any.

    Yields:
        The directory. What was made of it is removed again if the block ends before anything was
        written in it; and if it is interrupted, before anything was saved from which to go on.

    Raises:
        RunDirectoryError: As `check_run_directory`.
    """
    with ExitStack() as stack:
        try:
            make_directory(path, stack)
            stack.enter_context(_locked(path))
            description = path / DESCRIPTION
            if not description.exists():
                _check_empty(path)
            elif fresh:
                # What says whose they are goes last: killed half-way, it is still a run.
                _set_aside(path, [ARTIFACT, *_RECORDS, CHECKPOINTS, DESCRIPTION])
            if not description.exists():
                stack.push(partial(_remove_unsaved, path))  # while it is locked
                write_file(description, _described(config, framework, init_from).encode())
            started_at = _check_description(path, config, framework, init_from)
        except OSError as error:
            raise RunDirectoryError(
                f"cannot train in {path}: {error.strerror}; choose a directory that can be written"
            ) from error
        place = RunDirectory(path, started_at)
        place.checkpoints.sweep()
        yield place


def _described(config: TrainConfig, framework: Framework, init_from: str | None) -> str:
    return json.dumps(
        {
            "format": _FORMAT,
            "framework": framework,
            "init_from": init_from,
            "started_at": datetime.now(UTC).isoformat(),
            "config": config.model_dump(mode="json"),
        },
        indent=1,
    )


def _check_empty(path: Path) -> None:
    names = {child.name for child in path.iterdir()} - {LOCK, _SET_ASIDE}
    if others := sorted(names):
        raise RunDirectoryError(
            f"{path} is no directory of a run: it has {others[0]} and no {DESCRIPTION}; choose a "
            "new directory"
        )


def _check_description(
    path: Path, config: TrainConfig, framework: Framework, init_from: str | None
) -> datetime:
    """Returns when the run began that is there.

    Raises:
        RunDirectoryError: It is none, or another one.
    """
    description = path / DESCRIPTION
    if not description.exists():
        _check_empty(path)
        return datetime.now(UTC)
    try:
        found = json.loads(description.read_text())
        started_at = datetime.fromisoformat(found["started_at"])
        own = {key: found[key] for key in ("framework", "init_from")} | found["config"]
        if found["format"] != _FORMAT:
            raise ValueError(f"its format is {found['format']!r}, expected {_FORMAT!r}")
    except (ValueError, LookupError, TypeError) as error:
        raise RunDirectoryError(
            f"{description} is not of a run: {error}; choose a new directory"
        ) from error
    asked = {"framework": framework, "init_from": init_from, **config.model_dump(mode="json")}
    require_same(path, own, asked)
    return started_at


def require_same(place: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Checks that a run goes on as what it was begun, but for `MAY_DIFFER`.

    Args:
        place: Of the run or of a checkpoint.
        there: What it is of.
        here: What is asked for.

    Raises:
        RunDirectoryError: Something else differs; the message has all of it.
    """
    differences = [
        f"{key}: {_shown(old)} there, {_shown(new)} here"
        for key, old, new in differing(there, here)
        if not key.startswith(MAY_DIFFER)
    ]
    if differences:
        raise RunDirectoryError(
            f"{place} is of another run: {'; '.join(differences)}. Give what it has, choose a new "
            "directory, or have it set aside with --fresh"
        )


_MISSING = object()


def differing(
    one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yields the path of each key in which two configurations differ, and both values."""
    for key in [*one, *(key for key in other if key not in one)]:
        here, there = one.get(key, _MISSING), other.get(key, _MISSING)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            yield from differing(here, there, f"{prefix}{key}.")
        elif here != there:
            yield f"{prefix}{key}", here, there


def _shown(value: object) -> str:
    return "nothing" if value is _MISSING else json.dumps(value)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the directory's lock, and says in it who does."""
    while True:
        with (path / LOCK).open("a+") as file:
            _lock(file, path)
            if _is_at(file, path / LOCK):  # and was not removed between the two lines above
                file.truncate(0)
                json.dump({"pid": os.getpid(), "host": platform.node()}, file)
                file.flush()
                try:
                    yield
                finally:
                    file.truncate(0)
                return


def _lock(file: TextIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        try:
            owner = json.load(file)
            who = f"process {owner['pid']} on {owner['host']}"
        except (ValueError, LookupError, TypeError):  # it has not said so yet
            who = "another process"
        raise RunDirectoryError(
            f"{path} is in use by {who}; wait until it has ended, or choose another directory"
        ) from None


def _is_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _set_aside(path: Path, names: Sequence[str]) -> None:
    """Moves what there is of a run by these names into a directory of its own."""
    if there := [name for name in names if (path / name).exists()]:
        # The clock may have been set back since the last time.
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        aside = path / _SET_ASIDE / name
        for name in there:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).rename(aside / name)


def _remove_unsaved(path: Path, kind: type[BaseException] | None, *_: object) -> None:
    """Removes what `claim` made, unless there is more; as an exit of a context.

    The curves of a run that failed show why; those of one that was interrupted are of no use.
    """
    is_interrupted = kind is not None and not issubclass(kind, Exception)
    records = _RECORDS if is_interrupted else ()
    if {child.name for child in path.iterdir()} <= {DESCRIPTION, LOCK, *records}:
        for name in records:
            if (path / name).is_dir():
                shutil.rmtree(path / name)
            else:
                (path / name).unlink(missing_ok=True)
        (path / DESCRIPTION).unlink(missing_ok=True)
        (path / LOCK).unlink(missing_ok=True)
