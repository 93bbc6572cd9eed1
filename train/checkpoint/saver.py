"""Saves a run beside its training.

A step waits for the copy that a backend makes of its state, and not for the disk: threads, one a
rank, write the copies. A save that fails costs nothing but itself: what was written of it is
removed, the callbacks are told, and training goes on with the checkpoints that there are.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from train.backends.backend import Backend
from train.callbacks.callbacks import Callbacks
from train.checkpoint.manifest import STATE, CheckpointError
from train.checkpoint.store import CheckpointStore
from train.config.checkpoint import CheckpointConfig
from train.events import Saved, SaveFailed, Warned

_MAX_REASON = 1000


class _Outcome(NamedTuple):
    """What became of a save, and what else is to be told of it."""

    saved: Saved | SaveFailed
    warning: str | None = None


@dataclass
class Saver:
    """Saves the run of one backend; every rank has one and calls its methods together.

    Attributes:
        backend: What is saved.
        store: Where to; all ranks see it, and the first names what is whole.
        policy: When, and what stays.
        facts: What the manifest says of the run as it is, see `write_manifest`.
        score: How good a checkpoint's metrics are, see `CheckpointStore.prune`.
        callbacks: Whom to tell of what became of a save; on the first rank.
    """

    backend: Backend
    store: CheckpointStore
    policy: CheckpointConfig
    facts: Callable[[], Mapping[str, Any]]
    score: Callable[[Mapping[str, float]], float | None]
    callbacks: Callbacks
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
    )
    _writing: Future[_Outcome] | None = None

    def is_due(self, step: int) -> bool:
        """Whether the policy has a checkpoint after so many steps."""
        return self.policy.every_steps is not None and step % self.policy.every_steps == 0

    def save(self, step: int) -> None:
        """Copies the state after so many steps, and has it written; collective.

        A save that is still being written is waited for.
        """
        self.wait()
        write = self.backend.save(self.store.unfinished(step) / STATE)
        self._writing = self._thread.submit(self._write, step, write, self.facts())

    def poll(self) -> None:
        """Tells of a save that has ended meanwhile."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def save_now(self, step: int) -> Saved | SaveFailed:
        """Saves the state after so many steps; returns what became of it. Collective."""
        self.save(step)
        assert self._writing is not None  # by `save`
        saved = self._writing.result().saved
        self.wait()
        return saved

    def wait(self) -> None:
        """Waits for the save that is being written, and tells what became of it."""
        if self._writing is not None:
            outcome, self._writing = self._writing.result(), None
            self.callbacks.tell(outcome.saved)
            if outcome.warning is not None:
                self.callbacks.tell(Warned(outcome.warning))

    def close(self) -> None:
        """Waits for the save that is being written; nothing is saved after that."""
        self.wait()
        self._thread.shutdown()

    def _write(self, step: int, write: Callable[[], None], facts: Mapping[str, Any]) -> _Outcome:
        try:
            write()  # by all ranks; ends when all have
            if self.backend.rank == 0:
                self.store.commit(step, facts)
        except Exception as error:
            if self.backend.rank == 0:
                self.store.discard(step)
            return _Outcome(SaveFailed(step, _reason(error)))
        return _Outcome(Saved(step, self.store.path(step)), self._prune())

    def _prune(self) -> str | None:
        """Removes the checkpoints that are not to stay; returns why it could not."""
        try:
            if self.backend.rank == 0:
                self.store.prune(self.policy, self.score)
        except (OSError, CheckpointError) as error:
            return f"checkpoints that are not to stay were not removed: {_reason(error)}"
        return None


def _reason(error: Exception) -> str:
    """Describes a failure in a line; those of libraries may fill a page."""
    said = error.strerror if isinstance(error, OSError) else None
    line = (said or str(error) or type(error).__name__).partition("\n")[0]
    return line if len(line) <= _MAX_REASON else f"{line[:_MAX_REASON]}..."
