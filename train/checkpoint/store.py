"""The checkpoints of a run, by step, in one directory.

A checkpoint appears and disappears by a rename. So whatever ends the program, each that has a name
of a step is whole, and what else lies there is swept away by the next run.
"""

import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from base.files import flush
from train.checkpoint.manifest import (
    CheckpointError,
    FormatError,
    Manifest,
    read_manifest,
    verified_manifest,
    write_manifest,
)
from train.checkpoint.retention import kept
from train.config.checkpoint import CheckpointConfig

_NAME = re.compile(r"step-(\d{12})")
_UNFINISHED = ".partial-"
_DAMAGED = "damaged-"
_LEFT = "left-"


class Checkpoint(NamedTuple):
    """One that was verified."""

    directory: Path
    manifest: Manifest


class CheckpointStore:
    """See the module.

    Args:
        directory: Of the checkpoints; made with the first of them.
    """

    def __init__(self, directory: Path):
        self.directory = directory

    def steps(self) -> list[int]:
        """Returns the steps after which there is a checkpoint, in order."""
        if not self.directory.is_dir():
            return []
        names = (_NAME.fullmatch(path.name) for path in self.directory.iterdir())
        return sorted(int(name[1]) for name in names if name is not None)

    def path(self, step: int) -> Path:
        """Where the checkpoint after a step is, or would be."""
        return self.directory / f"step-{step:012}"

    def unfinished(self, step: int) -> Path:
        """Where it is written until it is whole."""
        return self.directory / f"{_UNFINISHED}step-{step:012}"

    def commit(self, step: int, facts: Mapping[str, Any]) -> Path:
        """Gives a checkpoint its name, once its state has been written; returns where it is.

        Args:
            step: After which.
            facts: See `write_manifest`.

        Raises:
            OSError: It cannot be written.
        """
        unfinished, path = self.unfinished(step), self.path(step)
        write_manifest(unfinished, facts)
        self._remove(path)  # one of the same step, of before the run was rolled back
        unfinished.rename(path)
        flush(self.directory)
        return path

    def newest_good(self, tell: Callable[[str], object]) -> Checkpoint | None:
        """Returns the newest checkpoint that is as it was written; None if there is none.

        Those that are not are set aside.

        Args:
            tell: Called with what was found wrong and where it is now.

        Raises:
            FormatError: It was written by another version of this program.
            OSError: One cannot be set aside.
        """
        for step in reversed(self.steps()):
            try:
                return self.verified(step)
            except FormatError:
                raise
            except CheckpointError as error:
                aside = self._set_aside(step, _DAMAGED)
                tell(f"{error}; its checkpoint is not used, and now in {aside}")
        return None

    def verified(self, step: int) -> Checkpoint:
        """Returns the checkpoint after a step.

        Raises:
            CheckpointError: It is not as it was written, or there is none.
        """
        if step not in self.steps():
            raise CheckpointError(f"{self.path(step)} is not there")
        manifest = verified_manifest(self.path(step))
        if manifest.step != step:
            raise CheckpointError(f"{self.path(step)} is of step {manifest.step}")
        return Checkpoint(self.path(step), manifest)

    def prune(
        self, policy: CheckpointConfig, score: Callable[[Mapping[str, float]], float | None]
    ) -> None:
        """Removes the checkpoints that are not to stay; one that a run is to publish does.

        Args:
            policy: Which are.
            score: Of what a model was evaluated to, how good it is; more is better.
        """
        steps = self.steps()
        if not steps:
            return
        held = read_manifest(self.path(steps[-1])).course.best_step
        scores = {}
        if policy.keep_best is not None:
            found = {step: score(read_manifest(self.path(step)).metrics) for step in steps}
            scores = {step: value for step, value in found.items() if value is not None}
        for step in set(steps) - kept(steps, policy, scores, held):
            self._remove(self.path(step))

    def leave_after(self, step: int) -> None:
        """Sets aside the checkpoints of later steps, which a run that goes on from here has anew.

        Raises:
            OSError: One cannot be set aside.
        """
        for later in self.steps():
            if later > step:
                self._set_aside(later, _LEFT)

    def sweep(self) -> None:
        """Removes what a process left that was killed; nobody may be writing."""
        for path in self.directory.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(path, ignore_errors=True)

    def discard(self, step: int) -> None:
        """Removes what was written of a checkpoint that is not to be."""
        shutil.rmtree(self.unfinished(step), ignore_errors=True)
        with suppress(OSError):  # there are others
            self.directory.rmdir()

    def _set_aside(self, step: int, prefix: str) -> Path:
        path = self.path(step)
        return path.rename(path.with_name(f"{prefix}{path.name}-{secrets.token_hex(4)}"))

    def _remove(self, path: Path) -> None:
        if path.exists():
            gone = path.rename(path.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}"))
            shutil.rmtree(gone, ignore_errors=True)
