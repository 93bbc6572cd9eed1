"""How late the event loop is: what every caller waits in addition, whatever they asked for."""

import asyncio
from collections.abc import Callable

# Between two looks.
INTERVAL_S = 0.1


class LoopLag:
    """Looks ten times a second, from `start` to `stop`.

    A loop that something blocks for a second is told once, as late as it then is, and not ten
    times: the next look is an interval after the late one.

    Args:
        loop: whose time is asked.
        tell: called with the seconds that each look was late.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, tell: Callable[[float], None]) -> None:
        self._loop, self._tell = loop, tell
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to look."""
        due = self._loop.time() + INTERVAL_S
        self._next = self._loop.call_at(due, self._look, due)

    def stop(self) -> None:
        """Looks no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self, due: float) -> None:
        self._tell(max(self._loop.time() - due, 0.0))
        self.start()
