"""Writes lines in a thread of its own: whoever logs never waits, not for a slow reader either.

What waits to be written is bounded. Beyond that lines are lost, and counted.
"""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

# From one look at what there is to the next: lines are written so late at most, and nobody is
# woken for each.
PERIOD_S = 0.1

# Lines that are made at a stretch, and the pause after them. Meanwhile the interpreter is the event
# loop's, which would otherwise wait up to 5 ms for it (`sys.getswitchinterval`).
_STRETCH = 16
_PAUSE_S = 0.0002

# What a reader that takes nothing may cost at the end.
_END_S = 2.0


class LineWriter:
    """Makes lines of what it is given and writes them, in that order, until it is closed.

    Args:
        descriptor: of the open file, such as that of stderr.
        render: makes a line, with its end; called in the writer's thread.
        max_lines: that may wait to be written.

    Attributes:
        lost: lines that were not written.
    """

    def __init__(self, descriptor: int, render: Callable[[object], bytes], max_lines: int) -> None:
        self.lost = 0
        self._descriptor, self._render, self._max_lines = descriptor, render, max_lines
        self._waiting: deque[object] = deque()
        self._closed = threading.Event()
        self._losing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, entry: object) -> None:
        """Has an entry written, unless too many wait; from any thread, and at once."""
        if len(self._waiting) >= self._max_lines or self._closed.is_set():
            self._lose(1)
        else:
            self._waiting.append(entry)

    def close(self) -> None:
        """Writes what waits, and ends; what cannot be written within seconds is lost."""
        self._closed.set()
        self._thread.join(_END_S)
        self._lose(len(self._waiting))

    def _run(self) -> None:
        while not self._closed.wait(PERIOD_S):
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        while self._waiting:
            entries = [self._waiting.popleft() for _ in range(min(len(self._waiting), _STRETCH))]
            self._write(entries)
            if not self._closed.is_set():
                time.sleep(_PAUSE_S)

    def _write(self, entries: Sequence[object]) -> None:
        lines = memoryview(b"".join(map(self._line, entries)))
        try:
            while lines:
                with suppress(BlockingIOError):
                    lines = lines[os.write(self._descriptor, lines) :]
                    continue
                # Whoever shares the terminal has made it so that writing does not wait.
                select.select([], [self._descriptor], [])
        except OSError:  # nobody reads any more, or the disk is full; it may not be so for ever
            self._lose(len(entries))

    def _line(self, entry: object) -> bytes:
        try:
            return self._render(entry)
        except Exception as error:  # what cannot be said must not end what can
            return f"a line of the log could not be made: {error!r}\n".encode()

    def _lose(self, lines: int) -> None:
        with self._losing:
            self.lost += lines
