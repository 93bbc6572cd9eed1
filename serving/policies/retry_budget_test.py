"""Retries never exceed a share of the requests and a floor."""

from hypothesis import given
from hypothesis import strategies as st

from serving.policies.retry_budget import RetryBudget, RetryConfig

CONFIG = RetryConfig(share=0.2, min_per_s=0.5, window_s=10.0)


def test_the_floor_is_there_without_requests() -> None:
    budget = RetryBudget(CONFIG)
    assert [budget.take(1.0) for _ in range(7)] == [True] * 5 + [False] * 2


def test_a_fifth_of_the_requests_is_added() -> None:
    budget = RetryBudget(CONFIG)
    budget.add(1.0, requests=50)
    assert sum(budget.take(1.0) for _ in range(100)) == 5 + 10


def test_a_batch_is_tried_again_as_a_whole_or_not() -> None:
    budget = RetryBudget(CONFIG)
    assert not budget.take(1.0, retries=6)
    assert budget.take(1.0, retries=5)


def test_what_was_spent_comes_back_with_time() -> None:
    budget = RetryBudget(CONFIG)
    assert budget.take(1.0, retries=5)
    assert not budget.take(9.0)
    assert budget.take(12.0)


def test_no_retries_at_all() -> None:
    budget = RetryBudget(RetryConfig(share=0.0, min_per_s=0.0))
    budget.add(1.0, requests=1000)
    assert not budget.take(1.0)


@given(
    st.lists(
        st.tuples(st.floats(0, 2), st.integers(0, 20), st.integers(0, 8)), min_size=1, max_size=60
    )
)
def test_whatever_is_granted_is_within_share_and_floor(steps: list[tuple[float, int, int]]) -> None:
    budget, now = RetryBudget(CONFIG), 0.0
    requests: list[tuple[float, int]] = []
    retries: list[tuple[float, int]] = []
    for gap, came, wanted in steps:
        now += gap
        budget.add(now, came)
        requests.append((now, came))
        if budget.take(now, wanted):
            retries.append((now, wanted))
            spent = sum(n for at, n in retries if at >= now - 8.9)
            earned = sum(n for at, n in requests if at >= now - 10.1)
            assert spent <= 5 + 0.2 * earned + 1e-9
