"""When requests wait for others, though a replica is free."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.policies.gathering import Gathering, GatheringConfig

SAVING_S = 0.010


def after(gaps: list[float], max_queue_delay_s: float) -> tuple[Gathering, float]:
    target, now = Gathering(GatheringConfig(max_queue_delay_s=max_queue_delay_s)), 100.0
    for gap in gaps:
        now += gap
        target.arrived(now)
    return target, now


def test_by_default_nobody_waits() -> None:
    target, now = Gathering(GatheringConfig()), 1.0
    for _ in range(100):
        target.arrived(now)
    assert target.wait_s(now, now, saving_s=1.0) == 0


def test_a_lone_request_leaves_at_once() -> None:
    target, now = after([1.0], 0.05)
    assert target.wait_s(now, now, SAVING_S) == 0


def test_one_caller_after_the_other_leaves_at_once() -> None:
    # Each comes when the one before was answered, which takes longer than what could be saved.
    target, now = after([SAVING_S * 1.2] * 100, 0.05)
    assert target.wait_s(now, now, SAVING_S) == 0


def test_dense_arrivals_wait_a_few_gaps() -> None:
    target, now = after([0.001] * 100, 0.05)
    assert target.wait_s(now, now, SAVING_S) == pytest.approx(0.003, rel=0.01)
    assert target.wait_s(now + 0.002, now, SAVING_S) == pytest.approx(0.001, rel=0.03)
    # By then the others have not come.
    assert target.wait_s(now + 0.0031, now, SAVING_S) == 0


def test_waiting_costs_less_than_it_saves() -> None:
    target, now = after([0.001] * 100, 0.05)
    assert target.wait_s(now, now, saving_s=0.0005) == 0


@given(
    gaps=st.lists(st.floats(0, 0.02), min_size=1, max_size=50),
    max_delay_s=st.floats(0, 0.05),
    waited_s=st.floats(0, 0.1),
    saving_s=st.floats(0, 1),
)
def test_nobody_ever_waits_longer_than_the_budget(
    gaps: list[float], max_delay_s: float, waited_s: float, saving_s: float
) -> None:
    target, now = after(gaps, max_delay_s)
    wait_s = target.wait_s(now, now - waited_s, saving_s)
    assert wait_s >= 0
    assert waited_s + wait_s <= max(max_delay_s, waited_s) + 1e-9
