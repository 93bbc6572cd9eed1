"""Batches come in order, one is made ahead, and what goes wrong is heard of."""

import threading

import pytest

from data.prefetch import prefetch


def test_yields_every_step_in_order() -> None:
    assert list(prefetch(lambda step: step**2, range(3, 7))) == [9, 16, 25, 36]
    assert list(prefetch(lambda step: step, range(0))) == []


def test_the_next_batch_is_made_beside_the_step_and_no_further_one() -> None:
    made: list[int] = []
    second = threading.Event()

    def make(step: int) -> int:
        made.append(step)
        if step == 1:
            second.set()
        return step

    batches = prefetch(make, range(5))
    assert next(batches) == 0
    assert second.wait(60)  # while the caller is still with the first
    assert made == [0, 1]
    batches.close()
    assert made == [0, 1]


def test_is_made_in_another_thread() -> None:
    (name,) = prefetch(lambda step: threading.current_thread().name, range(1))
    assert name != threading.current_thread().name


def test_an_error_is_raised_when_its_batch_is_due() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise ValueError("no third batch")
        return step

    batches = prefetch(make, range(5))
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(ValueError, match="no third batch"):
        next(batches)
