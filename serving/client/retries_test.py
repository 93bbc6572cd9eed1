"""When a refused call is made again, by the rules of gRPC's proposal A6."""

import math
import threading

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.client.retries import (
    MAX_ATTEMPTS,
    Refusal,
    RetryBudget,
    RetryPolicy,
    pushback_s,
    wait_before_retry,
)

POLICY = RetryPolicy()
ALMOST_ONE = math.nextafter(1.0, 0.0)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def wait_s(
    code: grpc.StatusCode = UNAVAILABLE,
    *,
    details: str = "",
    pushback: float | None = None,
    attempts: int = 1,
    remaining_s: float = 1000.0,
    policy: RetryPolicy = POLICY,
    budget: RetryBudget | None = None,
    drawn: float = 0.5,
) -> float | None:
    return wait_before_retry(
        Refusal(code, details, pushback),
        attempts=attempts,
        remaining_s=remaining_s,
        policy=policy,
        budget=budget or RetryBudget(policy),
        draw=lambda: drawn,
    )


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_only_what_was_not_processed_is_tried_again(code: grpc.StatusCode) -> None:
    retried = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert (wait_s(code) is not None) == retried


@pytest.mark.parametrize(
    "details",
    [
        "SERVER: Received message larger than max (5003 vs. 1000)",
        "CLIENT: Sent message larger than max (503 vs. 10)",
    ],
)
def test_a_message_that_is_too_large_is_not_sent_again(details: str) -> None:
    assert wait_s(grpc.StatusCode.RESOURCE_EXHAUSTED, details=details) is None


@pytest.mark.parametrize(("attempts", "longest_s"), [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8)])
def test_waits_are_drawn_from_an_interval_that_doubles(attempts: int, longest_s: float) -> None:
    assert wait_s(attempts=attempts, drawn=0.0) == 0.0
    assert wait_s(attempts=attempts, drawn=0.25) == pytest.approx(longest_s / 4)
    assert wait_s(attempts=attempts, drawn=ALMOST_ONE) == pytest.approx(longest_s)


def test_the_interval_ends_at_the_longest_backoff() -> None:
    policy = RetryPolicy(initial_backoff_s=1.0, backoff_multiplier=10.0, max_backoff_s=5.0)
    assert wait_s(attempts=4, drawn=ALMOST_ONE, policy=policy) == pytest.approx(5.0)


def test_attempts_end() -> None:
    assert wait_s(attempts=MAX_ATTEMPTS - 1) is not None
    assert wait_s(attempts=MAX_ATTEMPTS) is None
    assert wait_s(policy=RetryPolicy(max_attempts=1)) is None


@given(st.integers(1, 4), st.floats(0, 100), st.floats(0, ALMOST_ONE), st.floats(0, 200))
def test_pushback_is_the_least_wait_and_the_deadline_its_end(
    attempts: int, pushback: float, drawn: float, remaining_s: float
) -> None:
    waited_s = wait_s(attempts=attempts, pushback=pushback, drawn=drawn, remaining_s=remaining_s)
    longest_s = 0.1 * 2 ** (attempts - 1)
    if waited_s is None:
        assert pushback + longest_s * drawn >= remaining_s - 1e-9
    else:
        assert pushback <= waited_s <= pushback + longest_s
        assert waited_s < remaining_s


def test_no_attempt_without_time_left() -> None:
    assert wait_s(remaining_s=0.0, drawn=0.0) is None
    assert wait_s(remaining_s=-1.0, drawn=0.0) is None


def test_a_server_that_says_never_is_not_asked_again() -> None:
    assert wait_s(pushback=math.inf) is None


@pytest.mark.parametrize(
    ("values", "expected_s"),
    [
        ([], None),
        (["0"], 0.0),
        (["1"], 0.001),
        (["1500"], 1.5),
        (["-1"], math.inf),
        (["-2147483648"], math.inf),
        # What is malformed is "never", by A6.
        (["1", "2"], math.inf),
        ([""], math.inf),
        (["1.5"], math.inf),
        (["0x10"], math.inf),
        (["01"], math.inf),
        ([" 1"], math.inf),
        (["1\n"], math.inf),
        (["\u0661"], math.inf),
        (["9" * 5000], math.inf),
        (["never"], math.inf),
    ],
)
def test_pushback_is_read_strictly(values: list[str], expected_s: float | None) -> None:
    assert pushback_s(values) == expected_s


def test_budget_allows_retries_down_to_half_of_its_tokens() -> None:
    """By A6: 10 tokens, and a retry only while more than 5 are left after the failure."""
    budget = RetryBudget(RetryPolicy(budget_tokens=10.0))
    assert [budget.refused() for _ in range(7)] == [True] * 4 + [False] * 3


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_under_lasting_overload_retries_are_a_share_of_the_answers(ratio: float) -> None:
    policy = RetryPolicy(budget_tokens=10.0, token_ratio=ratio)
    budget = RetryBudget(policy)
    while budget.refused():
        pass
    answers, retries = 1000, 0
    for _ in range(answers):
        budget.answered()
        retries += wait_s(budget=budget, policy=policy) is not None
    assert retries <= ratio * answers
    # It recovers when the server does: up to what it held at first, and no more.
    for _ in range(10_000):
        budget.answered()
    assert sum(budget.refused() for _ in range(100)) == 4


def test_every_refusal_takes_a_token_whether_it_is_tried_again_or_not() -> None:
    budget = RetryBudget(RetryPolicy(budget_tokens=10.0))
    for _ in range(4):
        assert wait_s(budget=budget, pushback=math.inf) is None
    assert wait_s(budget=budget) is None
    # Another failure is not one of overload.
    budget = RetryBudget(RetryPolicy(budget_tokens=10.0))
    for _ in range(100):
        assert wait_s(grpc.StatusCode.INTERNAL, budget=budget) is None
    assert wait_s(budget=budget) is not None


def test_the_budget_counts_right_in_many_threads() -> None:
    budget = RetryBudget(RetryPolicy(budget_tokens=1000.0, token_ratio=1.0))
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for _ in range(2000):
            budget.refused()
            budget.answered()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Each took as many as it gave back, so it is full: 499 more leave more than half.
    assert sum(budget.refused() for _ in range(1000)) == 499


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", 6),
        ("initial_backoff_s", 0.0),
        ("initial_backoff_s", math.nan),
        ("max_backoff_s", math.inf),
        ("backoff_multiplier", 0.5),
        ("budget_tokens", -1.0),
        ("token_ratio", 0.0),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is .*; expected"):
        RetryPolicy(**{field: value})
