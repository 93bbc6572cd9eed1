"""The limit on simulated servers whose best concurrency is known."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.policies.concurrency_limit import ConcurrencyConfig, ConcurrencyLimit

SERVICE_S = 0.01


def run(
    target: ConcurrencyLimit,
    workers: int,
    callers: int,
    seconds: float = 20.0,
    begin: float = 0.0,
    service_s: float = SERVICE_S,
    seed: int = 0,
) -> float:
    """Serves callers who all ask again at once, as many as the limit lets in.

    `workers` requests are computed at a time and the others wait, so that `n` in flight take
    max(1, n / workers) times the service time.

    Returns:
        Requests a second.
    """
    draw, now, done = random.Random(seed), begin, 0
    while now < begin + seconds:
        in_flight = min(callers, target.limit)
        latency_s = service_s * max(1.0, in_flight / workers)
        for _ in range(in_flight):
            target.record(now, latency_s * draw.uniform(0.9, 1.1), in_flight)
        done += in_flight
        now += latency_s
    return done / (now - begin)


def limit(least: float = SERVICE_S, **config: float) -> ConcurrencyLimit:
    bounds = {"min_limit": 8, "initial_limit": 64, "max_limit": 1024}
    return ConcurrencyLimit(ConcurrencyConfig.model_validate(bounds | config), least)


@pytest.mark.parametrize("initial_limit", [8, 64, 1024])
@pytest.mark.parametrize("workers", [16, 100])
def test_it_settles_where_the_server_is_busy_and_the_wait_is_bounded(
    workers: int, initial_limit: int
) -> None:
    target = limit(initial_limit=initial_limit)
    run(target, workers, callers=10_000)
    throughput = run(target, workers, callers=10_000, begin=20.0)
    assert throughput >= 0.99 * workers / SERVICE_S
    # Tolerated is twice the least latency, and room for bursts comes on top.
    assert 2 * workers * 0.9 <= target.limit <= 2 * workers / (1 - (2 * workers) ** -0.5) * 1.1


def test_the_least_latency_is_found_if_it_is_not_known() -> None:
    target = limit(least=0.0)
    run(target, workers=50, callers=10_000)
    assert target.least == pytest.approx(SERVICE_S, rel=0.1)
    assert 90 <= target.limit <= 140


def test_a_limit_that_is_not_reached_stays() -> None:
    target = limit(initial_limit=64)
    run(target, workers=100, callers=20)
    assert target.limit == 64


def test_it_grows_back_after_congestion() -> None:
    target = limit()
    run(target, workers=4, callers=1000)
    assert target.limit <= 20
    run(target, workers=100, callers=1000, begin=20.0)
    assert target.limit >= 180


def test_a_model_that_became_slower_is_measured_anew() -> None:
    target = limit(least=0.0, min_limit=4)
    run(target, workers=50, callers=1000)
    run(target, workers=50, callers=1000, begin=20.0, service_s=10 * SERVICE_S, seconds=60.0)
    assert target.least == pytest.approx(10 * SERVICE_S, rel=0.15)
    assert target.limit >= 90


def test_without_congestion_it_doubles_within_a_second() -> None:
    target = limit(initial_limit=64)
    run(target, workers=1000, callers=1000, seconds=1.0)
    assert target.limit >= 128


def test_a_known_least_latency_is_kept() -> None:
    target = limit(min_limit=4)
    run(target, workers=1, callers=1000, seconds=60.0)
    assert target.least == SERVICE_S
    assert target.limit == 4


def test_lost_requests_shrink_it_once_a_window() -> None:
    target = limit(initial_limit=100, window_s=1.0)
    for i in range(50):
        target.record(0.01 * i, 0.0, 100, dropped=True)
    assert target.limit == 100
    target.record(1.0, 0.0, 100, dropped=True)
    assert target.limit == 90


def test_one_bad_window_takes_a_tenth_at_most() -> None:
    target = limit(initial_limit=100, window_s=1.0)
    for i in range(20):
        target.record(0.01 * i, 1000 * SERVICE_S, 100)
    target.record(1.0, 1000 * SERVICE_S, 100)
    # Half, and the room for bursts, of which a fifth is done.
    assert target.limit == 100 - (50 - 10) / 5


def test_few_answers_say_nothing() -> None:
    target = limit(initial_limit=100, min_samples=10)
    for i in range(9):
        target.record(float(i), 1000 * SERVICE_S, 100)
    assert target.limit == 100
    target.record(9.0, 1000 * SERVICE_S, 100)
    assert target.limit < 100


def test_a_window_says_nothing_of_the_next() -> None:
    target = limit(initial_limit=100, window_s=1.0)
    for i in range(10):
        target.record(0.01 * i, SERVICE_S, 100)
    target.record(1.0, SERVICE_S, 100, dropped=True)
    assert target.limit == 99  # the room for bursts, and a tenth less
    for i in range(10):
        target.record(1.0 + 0.01 * i, SERVICE_S, 10)
    target.record(2.0, SERVICE_S, 10)
    assert target.limit == 99


@given(
    st.lists(
        st.tuples(st.floats(0, 1e3), st.sampled_from([1, 50, 5000]), st.booleans()), max_size=8
    )
)
def test_it_is_always_within_its_bounds(phases: list[tuple[float, int, bool]]) -> None:
    config = {"min_limit": 4, "initial_limit": 64, "max_limit": 80, "min_samples": 1}
    target, now = limit(**config), 0.0
    for latency, in_flight, dropped in phases:
        for _ in range(50):
            now += 0.1
            target.record(now, latency, in_flight, dropped)
            assert 4 <= target.limit <= 80


def test_bounds_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="expected min_limit <= initial_limit <= max_limit"):
        ConcurrencyConfig(min_limit=1000)
