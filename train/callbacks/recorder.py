"""Writes down what a run tells, in files that go on where the run does."""

import time
from collections.abc import Sequence
from typing import Protocol

from train.callbacks.callbacks import Closing
from train.events import (
    Action,
    Began,
    Event,
    Losses,
    RolledBack,
    Saved,
    StepBegins,
    Tell,
    Warned,
)


class Record(Protocol):
    """A file, or several, of what a run told."""

    def go_on(self, step: int) -> None:
        """Forgets what it has of later steps, which will be made again; opens it if need be.

        Raises:
            OSError: It cannot be written.
        """

    def write(self, event: Event, step: int, time_s: float) -> None:
        """Takes down an event.

        Args:
            event: Which.
            step: Updates of the state that it is of.
            time_s: When it was told, in seconds since 1970.

        Raises:
            OSError: It cannot be written; the record is as it was.
        """

    def flush(self) -> None:
        """Returns when the disk has all of it.

        Raises:
            OSError: It could not be written.
        """

    def close(self) -> None:
        """Nothing is written after this."""


class Recorder(Closing):
    """Has a record take down all that is told, but for what comes with every step.

    A record that cannot be written is no reason to end a run: the first entry that is lost is told.

    Args:
        record: Written once the run begins; what is told before waits for that.
        name: Of the record, for a human.
    """

    def __init__(self, record: Record, name: str):
        self._record, self._name = record, name
        self._step = 0
        self._waiting: list[tuple[Event, float]] | None = []
        self._is_failing = False

    def __call__(self, event: Event) -> Action | Sequence[Action] | None:
        if isinstance(event, StepBegins | Losses):
            return None
        now = time.time()
        if self._waiting is not None and not isinstance(event, Began):
            self._waiting.append((event, now))
            return None
        try:
            self._take_down(event, now)
        except OSError as error:
            was_failing, self._is_failing = self._is_failing, True
            message = f"{self._name} cannot be written, and will lack this: {error}"
            return None if was_failing else Tell(Warned(message))
        self._is_failing = False
        return None

    def _take_down(self, event: Event, now: float) -> None:
        if isinstance(event, Began):
            self._step, waiting, self._waiting = event.step, self._waiting or [], None
            self._record.go_on(event.step)
            for earlier, told_at in waiting:
                self._record.write(earlier, event.step, told_at)
        elif isinstance(event, RolledBack):
            self._step = event.to_step
            self._record.go_on(event.to_step)
        else:
            self._step = max(self._step, getattr(event, "step", 0))
        self._record.write(event, getattr(event, "step", self._step), now)
        if isinstance(event, Saved):  # a run that goes on from there has all before
            self._record.flush()

    def close(self) -> None:
        """See `Closing`."""
        self._record.close()
