"""How many replicas a share of busy time asks for."""

import math

import numpy as np
import pytest

from serving.control.scaling import BusyTime, replicas_for
from serving.replicas.compute import Arrays


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_share_is_that_of_the_time_since_it_was_asked() -> None:
    clock = Clock()

    def compute(inputs: Arrays) -> Arrays:
        clock.now_s += float(inputs["s"][0])
        return inputs

    busy = BusyTime(compute, clock)
    assert busy.share() == 0.0
    for seconds in (1.0, 2.0):
        assert busy({"s": np.array([seconds])})["s"] == seconds
    clock.now_s += 7.0
    assert busy.share() == pytest.approx(0.3)
    clock.now_s += 5.0
    assert busy.share() == 0.0
    busy({"s": np.array([4.0])})
    assert busy.share() == 1.0


def test_a_batch_that_is_being_computed_counts_and_is_not_counted_again() -> None:
    clock = Clock()
    shares = []

    def compute(inputs: Arrays) -> Arrays:
        clock.now_s += 3.0
        shares.append(busy.share())
        clock.now_s += 1.0
        raise ValueError("of the model")

    busy = BusyTime(compute, clock)
    clock.now_s += 1.0
    with pytest.raises(ValueError, match="of the model"):
        busy({})
    assert shares == [pytest.approx(0.75)]
    clock.now_s += 3.0
    assert busy.share() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("shares", "replicas"),
    [([0.0], 0), ([0.69], 1), ([1.0], 2), ([0.5, 0.5], 2), ([0.3, 0.3], 1), ([1.0, 1.0], 3)],
)
def test_replicas_are_added_when_they_are_busy_and_removed_when_not(
    shares: list[float], replicas: int
) -> None:
    assert math.ceil(replicas_for(shares)) == replicas
