"""The worker's promises: order, errors that are the caller's, and nothing for who has gone."""

import gc
import threading
import weakref

import numpy as np
import pytest

from serving.worker import Worker

WAIT_S = 60.0  # far more than anything takes


class Gate:
    """A computation that waits until it is let through, and remembers what it computed."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.open = threading.Event()
        self.computed: list[int] = []

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.started.set()
        assert self.open.wait(WAIT_S)
        self.computed.append(int(batch[0]))
        return -batch


def test_batches_are_computed_in_order_by_one_other_thread() -> None:
    threads = []

    def negative(batch: np.ndarray) -> np.ndarray:
        threads.append(threading.current_thread())
        return -batch

    worker = Worker(negative)
    futures = [worker.submit(np.array([i])) for i in range(20)]
    assert [int(future.result(WAIT_S)[0]) for future in futures] == [-i for i in range(20)]
    assert len(set(threads)) == 1
    assert threading.current_thread() not in threads


def test_error_is_the_callers_and_the_worker_goes_on() -> None:
    def inverse(batch: np.ndarray) -> np.ndarray:
        if not batch.all():
            raise ZeroDivisionError("a zero")
        return 1 / batch

    worker = Worker(inverse)
    failed, next_one = worker.submit(np.zeros(1)), worker.submit(np.ones(1))
    with pytest.raises(ZeroDivisionError, match="a zero"):
        failed.result(WAIT_S)
    assert next_one.result(WAIT_S) == 1


def test_cancelled_before_its_turn_it_is_let_go_and_never_computed() -> None:
    gate = Gate()
    worker = Worker(gate)
    first = worker.submit(np.array([1]))
    batch = np.array([2])
    second, third = worker.submit(batch), worker.submit(np.array([3]))
    assert gate.started.wait(WAIT_S)
    memory = weakref.ref(batch)
    del batch
    assert second.cancel()
    gc.collect()
    assert memory() is None  # while the first one still runs
    gate.open.set()
    assert (first.result(WAIT_S), third.result(WAIT_S)) == (-1, -3)
    assert gate.computed == [1, 3]


def test_what_runs_is_not_cancelled() -> None:
    gate = Gate()
    future = Worker(gate).submit(np.array([1]))
    assert gate.started.wait(WAIT_S)
    assert not future.cancel()
    gate.open.set()
    assert future.result(WAIT_S) == -1
