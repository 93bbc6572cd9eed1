"""Counts of what happened lately, in constant memory and constant time."""

# The window moves in steps of a tenth of it: what is older than the window is forgotten, and what
# is younger than nine tenths of it is not.
STEPS = 10


class RollingCounts:
    """How often each of a few kinds of things happened within the last `window_s` seconds.

    Args:
        window_s: above 0.
        num_kinds: of things that are counted; each is a number from 0.
    """

    __slots__ = ("_counts", "_step", "_steps_per_s", "totals")

    def __init__(self, window_s: float, num_kinds: int) -> None:
        self.totals = [0] * num_kinds  # by kind, as of the last `advance` or `add`
        self._counts = [[0] * num_kinds for _ in range(STEPS)]
        self._steps_per_s = STEPS / window_s
        self._step = 0  # the latest that has begun; its counts are at `_step % STEPS`

    def advance(self, now: float) -> None:
        """Forgets what is too old; a time before the latest one counts as the latest."""
        step = int(now * self._steps_per_s)
        ended = step - self._step
        if ended <= 0:
            return
        for old in range(self._step + 1, self._step + 1 + min(ended, STEPS)):
            counts = self._counts[old % STEPS]
            for kind, count in enumerate(counts):
                self.totals[kind] -= count
                counts[kind] = 0
        self._step = step

    def add(self, now: float, kind: int, count: int = 1) -> None:
        """Counts `count` things of a kind, at `now`."""
        self.advance(now)
        self.totals[kind] += count
        self._counts[self._step % STEPS][kind] += count

    def clear(self) -> None:
        """Forgets all."""
        for counts in (self.totals, *self._counts):
            counts[:] = [0] * len(counts)
