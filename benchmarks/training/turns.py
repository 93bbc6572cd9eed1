"""Callbacks that time a run from within, and end it when they have seen enough."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from train.events import Abort, Action, Event, Save, Saved, StepBegins, Stepped

DONE = "all was measured"


class Turns:
    """Has other loops take their turns between chunks of steps of the run, and times all.

    Reports are to be of a chunk each, so that the run has waited for its device by then.

    Args:
        chunk: Steps of a chunk.
        num_chunks: How many; the first is not counted.
        others: Each makes a chunk of steps of another loop, and waits for its device.

    Attributes:
        own_s: Seconds a step, of each chunk of the run.
        others_s: Of each of the other loops.
    """

    def __init__(self, chunk: int, num_chunks: int, others: Sequence[Callable[[], object]]):
        self._chunk, self._num_chunks, self._others = chunk, num_chunks, others
        self._since: float | None = None
        self.own_s: list[float] = []
        self.others_s: list[list[float]] = [[] for _ in others]

    def __call__(self, event: Event) -> Action | None:
        """Hears an event of the run."""
        if not isinstance(event, StepBegins) or event.step % self._chunk:
            return None
        if self._since is not None:
            self.own_s.append(self._step_s(self._since))
        for other, seconds in zip(self._others, self.others_s, strict=True):
            since = time.perf_counter()
            other()
            seconds.append(self._step_s(since))
        self._since = time.perf_counter()
        return Abort(DONE) if len(self.own_s) > self._num_chunks else None

    def _step_s(self, since: float) -> float:
        return (time.perf_counter() - since) / self._chunk


class Saves:
    """Has the run saved now and then, and times chunks of steps in which a checkpoint is written.

    A save begins after a chunk in which none was written, and goes on for as many as it takes.

    Args:
        num_saves: How many.

    Attributes:
        plain_s: Seconds of each chunk beside which nothing was written.
        saving_s: Of each save, the seconds of the chunks from its copy to its end, and how many.
    """

    def __init__(self, num_saves: int):
        self._num_saves = num_saves
        self._since: float | None = None
        self._spent_s, self._num_chunks = 0.0, 0
        self._is_written = True
        self.plain_s: list[float] = []
        self.saving_s: list[tuple[float, int]] = []

    def __call__(self, event: Event) -> Action | None:
        """Hears an event of the run."""
        if isinstance(event, Saved):
            self._is_written = True
        if not isinstance(event, Stepped):
            return None
        now = time.perf_counter()
        if self._since is None:  # the first chunk compiles
            self._since = now
            return None
        seconds, self._since = now - self._since, now
        if self._num_chunks == 0:
            self.plain_s.append(seconds)
            self._spent_s, self._num_chunks, self._is_written = 0.0, 1, False
            return Abort(DONE) if len(self.saving_s) >= self._num_saves else Save()
        self._spent_s += seconds
        if self._is_written:
            self.saving_s.append((self._spent_s, self._num_chunks))
            self._num_chunks = 0
        else:
            self._num_chunks += 1
        return None


class Waiting:
    """Adds up where the time of a run goes, but for its first report.

    Args:
        budget_s: For the run, in seconds.

    Attributes:
        seconds: Of each phase, of one step, added up over the reports.
        num_steps: How many they were of.
    """

    def __init__(self, budget_s: float):
        self._budget_s = budget_s
        self._since: float | None = None
        self._first = 0
        self.seconds: dict[str, float] = defaultdict(float)
        self.num_steps = 0

    def __call__(self, event: Event) -> Action | None:
        """Hears an event of the run."""
        if not isinstance(event, Stepped):
            return None
        now = time.perf_counter()
        if self._since is None:
            self._since, self._first = now, event.step
            return None
        self._add(event.phases, event.step - self._first - self.num_steps)
        self.num_steps = event.step - self._first
        return Abort(DONE) if now - self._since > self._budget_s else None

    def _add(self, phases: Mapping[str, float], num_steps: int) -> None:
        for phase, seconds in phases.items():
            self.seconds[phase] += seconds * num_steps
