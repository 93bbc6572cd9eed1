"""A thread that computes, so that the event loop of whoever asks stays free."""

import logging
import threading
import time
from collections.abc import Callable, Hashable
from queue import SimpleQueue

_log = logging.getLogger(__name__)

_END = object()


class Worker:
    """Does tasks one at a time, in the order in which they came, in a thread of its own.

    Whoever takes a task out of `_waiting` has it, and taking out is one step of the interpreter: so
    the thread that begins a task and the one that withdraws it need no lock, and a queue of the
    standard library that is written in C wakes the thread, in a third of the time of a Condition.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, Callable[[], None]] = {}
        self._order: SimpleQueue[Hashable] = SimpleQueue()
        self._busy_since: float | None = None
        # A daemon, since a process that ends need not wait for an answer that nobody reads.
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    @property
    def in_flight(self) -> int:
        """How many tasks wait or run."""
        return len(self._waiting) + (self._busy_since is not None)

    @property
    def busy_s(self) -> float:
        """For how long the task that runs has been running, in seconds; 0 if none does."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def alive(self) -> bool:
        """Whether the thread is still there."""
        return self._thread.is_alive()

    def submit(self, key: Hashable, task: Callable[[], None]) -> None:
        """Queues a task.

        Args:
            key: By which it can be withdrawn; of no other task that waits.
            task: Called in the worker's thread. What it raises is logged.
        """
        self._waiting[key] = task
        self._order.put(key)

    def withdraw(self, key: Hashable) -> bool:
        """Takes back a task that has not begun; it and what it holds are let go at once.

        Returns:
            Whether it had not begun. What runs is not interrupted.
        """
        return self._waiting.pop(key, None) is not None

    def end(self) -> None:
        """Lets the thread end after the task that runs; those that wait are dropped."""
        self._waiting.clear()
        self._order.put(_END)

    def _work(self) -> None:
        while (key := self._order.get()) is not _END:
            # Set first, so that a task is always counted as one that waits or as one that runs.
            self._busy_since = time.monotonic()
            task = self._waiting.pop(key, None)
            if task is not None:
                _do(task)
                del task  # Or its memory is held until the next one comes.
            self._busy_since = None


def _do(task: Callable[[], None]) -> None:
    try:
        task()
    except BaseException:  # whatever it is, it ends the task and not the thread
        _log.exception("a task of the worker has failed")
