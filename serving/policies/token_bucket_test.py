"""Never more than the rate allows, and never less."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.policies.token_bucket import RateLimitConfig, RateLimits, TokenBucket

# What rounding may grant too much, in tokens.
ROUNDING = 1e-5

rates = st.floats(0.01, 1e4)
bursts = st.floats(1, 100)
arrivals = st.lists(st.tuples(st.floats(0, 20), st.floats(0.1, 5)), min_size=1, max_size=60).map(
    sorted
)


@given(rate=rates, burst=bursts, arrivals=arrivals)
def test_no_interval_has_more_than_burst_and_rate(
    rate: float, burst: float, arrivals: list[tuple[float, float]]
) -> None:
    bucket = TokenBucket(rate, burst)
    granted = [(now, n) for now, n in arrivals if bucket.take(now, n) is None]
    for i, (begin, _) in enumerate(granted):
        total = 0.0
        for end, tokens in granted[i:]:
            total += tokens
            assert total <= burst + rate * (end - begin) + ROUNDING


@given(rate=rates, burst=bursts, arrivals=arrivals)
def test_whoever_waits_as_told_is_let_in_and_not_sooner(
    rate: float, burst: float, arrivals: list[tuple[float, float]]
) -> None:
    bucket, now = TokenBucket(rate, burst), 0.0
    for gap, tokens in arrivals:
        now += gap
        wait = bucket.take(now, tokens)
        if tokens > burst:
            assert wait is None or wait == math.inf  # by less than rounding
        elif wait is not None:
            assert bucket.take(now + wait * 0.99 - 2e-6 / rate, tokens) is not None
            now += wait
            assert bucket.take(now, tokens) is None


def test_a_refusal_costs_nothing() -> None:
    bucket = TokenBucket(rate=1.0, burst=2.0)
    assert bucket.take(0.0, 2.0) is None
    assert [bucket.take(0.5) for _ in range(3)] == [0.5] * 3
    assert bucket.take(1.0) is None


def limits(max_clients: int = 10_000, rate: float | None = 1.0) -> RateLimits:
    return RateLimits(RateLimitConfig(requests_per_s=rate, burst=2.0, max_clients=max_clients))


def test_each_pair_of_client_and_model_has_its_own() -> None:
    target = limits()
    for pair in (("c", "m"), ("c", "n"), ("d", "m")):
        assert [target.take(0.0, *pair) for _ in range(3)] == [None, None, 1.0]


def test_by_default_there_is_no_limit() -> None:
    target = RateLimits(RateLimitConfig())
    assert [target.take(0.0, "c", "m") for _ in range(1000)] == [None] * 1000
    assert len(target) == 0


def test_invented_clients_cannot_fill_memory_and_share_one_rate() -> None:
    target = limits(max_clients=100)
    granted = sum(target.take(0.0, f"invented {i}", "m") is None for i in range(10_000))
    assert len(target) == 100
    assert granted == 100 + 2


def test_invented_clients_take_nothing_from_those_who_were_there() -> None:
    target = limits(max_clients=2)
    assert target.take(0.0, "c", "m") is None
    for i in range(100):
        target.take(0.5, f"invented {i}", "m")
    # Of its burst of 2 it has used 1, half of which is back.
    assert [target.take(0.5, "c", "m") for _ in range(2)] == [None, pytest.approx(0.5)]


def test_who_has_not_asked_for_long_makes_room() -> None:
    target = limits(max_clients=1)
    assert target.take(0.0, "c", "m") is None
    assert [target.take(1.0, "d", "m") for _ in range(3)] == [None, None, 1.0]
    # There is no more room, so that the next ones share a bucket.
    assert [target.take(1.0, "e", "m") for _ in range(3)] == [None, None, 1.0]
    assert target.take(1.0, "f", "m") == 1.0
    assert len(target) == 1


def test_the_one_that_has_not_asked_for_the_longest_goes_first() -> None:
    target = limits(max_clients=2)
    assert [target.take(0.0, "c", "m") for _ in range(2)] == [None, None]
    assert target.take(0.5, "d", "m") is None
    assert target.take(1.4, "c", "m") is None
    assert [target.take(1.6, "e", "m") for _ in range(3)] == [None, None, 1.0]
    assert target.take(1.6, "c", "m") == pytest.approx(0.4)  # it is known still
    assert target.take(1.6, "f", "m") is None  # of the shared one, which "e" did not need
