"""Percentiles are of calls that were measured."""

import numpy as np
import pytest

from evaluation.speed_worker import summarize


@pytest.mark.parametrize("n", [1, 2, 10, 99, 100, 101, 200])
def test_percentiles_are_the_nearest_ranks(n: int) -> None:
    seconds = (np.random.default_rng(n).permutation(n) + 1) / 1000
    found = summarize(8, seconds.tolist())
    for percent, value in (
        (50, found.latency_p50_ms),
        (90, found.latency_p90_ms),
        (99, found.latency_p99_ms),
    ):
        # Of 1, 2, ..., n it is the first number that so many percent do not exceed.
        assert value == pytest.approx(-(-percent * n // 100))
    assert found.latency_mean_ms == pytest.approx((n + 1) / 2)
    assert found.num_calls == n
    assert found.examples_per_s == pytest.approx(8 * 1000 / ((n + 1) / 2))
