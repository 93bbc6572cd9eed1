"""Where each rank is, in memory that the launcher shares with it, and which one is missing.

A collective that not all ranks come to hangs. The others wait in it; so the one that is missing is
the one that has come less far, or whose process does not run at all.
"""

import threading
import time
from multiprocessing.sharedctypes import RawArray
from typing import Any

# How often a rank says that it is alive, which one that is stopped does not.
_ALIVE_EVERY_S = 0.5

# A rank that has been silent for so long is stopped; a busy machine may delay one.
_SILENT_S = 4.0

# The shortest limit: whoever is stopped has been silent for long enough by then.
MIN_LIMIT_S = 5.0

# A rank's numbers: how far it has come, counted by `beat`, and when it was last alive.
_COUNT, _ALIVE_AT, _NUM_CELLS = 0, 1, 2

_own: "memoryview[float] | None" = None


def shared_cells(world_size: int) -> Any:
    """Returns the memory for so many ranks; it travels to processes that are being started."""
    return RawArray("d", _NUM_CELLS * world_size)


def start(cells: Any, rank: int) -> None:
    """Has `beat` count for a rank, as which this process runs, and says that it is alive."""
    global _own
    _own = memoryview(cells).cast("B").cast("d")[_NUM_CELLS * rank : _NUM_CELLS * (rank + 1)]
    threading.Thread(target=_stay_alive, args=(_own,), daemon=True, name="heartbeat").start()


def beat() -> None:
    """Says that this rank has come to another place; it is the same place for all ranks."""
    if _own is not None:
        _own[_COUNT] += 1


class HangWatch:
    """Finds out when ranks no longer get on; the launcher's.

    Args:
        cells: Of the ranks.
        limit_s: For how long none may come any further, in seconds, at least `MIN_LIMIT_S`. It
            begins with the first that comes anywhere.
    """

    def __init__(self, cells: Any, limit_s: float):
        self._cells = cells
        self._limit_s = limit_s
        self._counts: list[float] = []
        self._since = time.monotonic()

    @property
    def poll_s(self) -> float:
        """How often to ask, in seconds."""
        return min(1.0, self._limit_s / 4)

    def hang(self) -> str | None:
        """Returns what hangs, for a human; None: nothing does."""
        counts, now = list(self._cells[_COUNT::_NUM_CELLS]), time.monotonic()
        if counts != self._counts or not any(counts):
            self._counts, self._since = counts, now
            return None
        if now - self._since <= self._limit_s:
            return None
        alive = self._cells[_ALIVE_AT::_NUM_CELLS]
        stopped = [rank for rank, at in enumerate(alive) if now - at > _SILENT_S]
        behind = [rank for rank, count in enumerate(counts) if count < max(counts)]
        what = f"no rank has come any further for {self._limit_s:g} s"
        if stopped:
            return f"{what}: {_ranks(stopped)} missing, for which the others wait; it does not run"
        if behind:
            return f"{what}: {_ranks(behind)} missing, for which the others wait"
        return f"{what}: all wait at the same place"


def _ranks(ranks: list[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]} is"
    return f"ranks {', '.join(map(str, ranks))} are"


def _stay_alive(own: "memoryview[float]") -> None:
    while True:
        own[_ALIVE_AT] = time.monotonic()
        time.sleep(_ALIVE_EVERY_S)
