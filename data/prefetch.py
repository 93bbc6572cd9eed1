"""Prepares the next batch while the one before is computed with."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Batch = TypeVar("Batch")


def prefetch(make: Callable[[int], Batch], steps: range) -> Generator[Batch, None, None]:
    """Yields `make(step)` of every step in turn, each made in a thread beside the step before.

    One batch is made ahead and no more, so memory holds two. What `make` raises is raised when its
    batch is due. A caller that stops early waits for the batch that is being made.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as worker:
        # Two iterators over the steps: one runs ahead of the other by one.
        pending = (worker.submit(make, step) for step in steps)
        upcoming = next(pending, None)
        while upcoming is not None:
            batch = upcoming.result()
            upcoming = next(pending, None)
            yield batch
