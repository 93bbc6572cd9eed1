"""The worker's promises: order, one thread, and nothing for who has gone."""

import gc
import threading
import weakref

import numpy as np
import pytest

from serving.replicas.worker import Worker

WAIT_S = 60.0  # far more than anything takes


class Gate:
    """A task that waits until it is let through."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> None:
        self.started.set()
        assert self.open.wait(WAIT_S)


def test_tasks_are_done_in_order_by_one_other_thread() -> None:
    worker, done, end = Worker(), [], threading.Event()
    threads = set()

    def task(i: int) -> None:
        done.append(i)
        threads.add(threading.current_thread())
        if i == 99:
            end.set()

    for i in range(100):
        worker.submit(i, lambda i=i: task(i))
    assert end.wait(WAIT_S)
    assert done == list(range(100))
    assert len(threads) == 1
    assert threading.current_thread() not in threads


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_task_that_fails_ends_no_other(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise error("a bug")

    worker, end = Worker(), threading.Event()
    worker.submit(1, fails)
    worker.submit(2, end.set)
    assert end.wait(WAIT_S)
    assert worker.alive
    assert "a bug" in caplog.text


def test_withdrawn_before_its_turn_it_is_let_go_and_never_done() -> None:
    worker, gate, done = Worker(), Gate(), []
    worker.submit("first", gate)
    assert gate.started.wait(WAIT_S)
    batch = np.array([2])
    worker.submit("second", lambda batch=batch: done.append(batch))
    end = threading.Event()
    worker.submit("third", end.set)
    assert worker.in_flight == 3
    memory = weakref.ref(batch)
    del batch
    assert worker.withdraw("second")
    assert not worker.withdraw("second")
    gc.collect()
    assert memory() is None  # while the first one still runs
    assert worker.in_flight == 2
    gate.open.set()
    assert end.wait(WAIT_S)
    assert done == []


def test_what_runs_is_not_withdrawn() -> None:
    worker, gate = Worker(), Gate()
    worker.submit("first", gate)
    assert gate.started.wait(WAIT_S)
    assert not worker.withdraw("first")
    assert worker.busy_s > 0
    gate.open.set()


def test_what_was_done_is_not_held() -> None:
    worker, end = Worker(), threading.Event()
    batch = np.array([1])
    memory = weakref.ref(batch)
    worker.submit(1, lambda batch=batch: batch.sum())
    del batch
    worker.submit(2, end.set)
    assert end.wait(WAIT_S)
    gc.collect()
    assert memory() is None


def test_ended_it_finishes_what_runs_and_begins_no_more() -> None:
    worker, gate, done = Worker(), Gate(), []
    worker.submit("first", gate)
    assert gate.started.wait(WAIT_S)
    worker.submit("second", lambda: done.append(2))
    worker.end()
    gate.open.set()
    worker._thread.join(WAIT_S)
    assert not worker.alive
    assert done == []


def test_of_two_who_take_a_task_only_one_has_it() -> None:
    """Each task is either done or withdrawn, however the threads happen to meet."""
    worker, done, withdrawn = Worker(), set(), set()
    for i in range(3000):
        worker.submit(i, lambda i=i: done.add(i))
        if i % 2 and worker.withdraw(i):
            withdrawn.add(i)
    end = threading.Event()
    worker.submit("end", end.set)
    assert end.wait(WAIT_S)
    assert done.isdisjoint(withdrawn)
    assert done | withdrawn == set(range(3000))
