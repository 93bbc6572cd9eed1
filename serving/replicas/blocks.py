"""Which parts of an arena are in use: a list of gaps, the first of which that fits is taken.

The first, and not the best: what is used again and again is then the beginning of the arena, whose
pages are there already. A page that is touched for the first time costs more than to copy it.
"""

import threading
from bisect import bisect_left

from serving.replicas.tensors import ALIGNMENT


class Blocks:
    """Allocates blocks of an arena; any thread may call it.

    Args:
        size: Of the arena in bytes.
    """

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        # Offset and size of each gap, in order, none of them touching another.
        self._gaps = [(0, size)]
        self._used: dict[int, int] = {}

    @property
    def used_bytes(self) -> int:
        """How much is taken."""
        with self._lock:
            return sum(self._used.values())

    def allocate(self, size: int) -> int | None:
        """Takes a block of at least this size.

        Returns:
            Its offset, a multiple of ALIGNMENT; None if no gap is large enough.
        """
        size = max(size, 1)
        size += -size % ALIGNMENT
        with self._lock:
            for i, (offset, gap) in enumerate(self._gaps):
                if gap < size:
                    continue
                self._gaps[i : i + 1] = [(offset + size, gap - size)] if gap > size else []
                self._used[offset] = size
                return offset
        return None

    def free(self, offset: int) -> bool:
        """Gives a block back.

        Returns:
            False if no block that is taken begins there.
        """
        with self._lock:
            size = self._used.pop(offset, None)
            if size is None:
                return False
            at = bisect_left(self._gaps, (offset, 0))
            first, last = at, at
            if at and sum(self._gaps[at - 1]) == offset:
                first = at - 1
                offset, size = self._gaps[first][0], self._gaps[first][1] + size
            if at < len(self._gaps) and self._gaps[at][0] == offset + size:
                last = at + 1
                size += self._gaps[at][1]
            self._gaps[first:last] = [(offset, size)]
            return True
