"""Where the time of a run goes on the host."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

# "data": waiting for the next batch; "step": until the step is given to the device, and of a
# device that is not asynchronous until it is made; "device": waiting for the results of steps;
# "evaluation"; "checkpoint": copying what is saved, and waiting for a save that is not written yet;
# "callbacks": telling them.
Phase = Literal["data", "step", "device", "evaluation", "checkpoint", "callbacks"]


class Phases:
    """Adds up how long each phase takes."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._taken: dict[str, float] = {}

    @contextmanager
    def measured(self, phase: Phase) -> Iterator[None]:
        """Adds what the block takes."""
        since = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] += time.perf_counter() - since

    def seconds(self) -> dict[str, float]:
        """Returns what each phase has taken since the beginning."""
        return dict(self._seconds)

    def take(self, num_steps: int) -> dict[str, float]:
        """Returns the seconds of each phase since it was last asked, per step of so many."""
        before, self._taken = self._taken, self.seconds()
        since = {phase: total - before.get(phase, 0.0) for phase, total in self._taken.items()}
        return {phase: seconds / num_steps for phase, seconds in since.items() if seconds}
