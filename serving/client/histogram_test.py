"""Percentiles against numpy's, over all magnitudes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.client.histogram import RELATIVE_ERROR, Histogram

DURATIONS = st.lists(st.floats(0, 60_000), min_size=1, max_size=200)
PERCENTS = [0, 1, 50, 90, 99, 99.9, 100]


def recorded(durations_s: list[float]) -> Histogram:
    histogram = Histogram()
    for duration_s in durations_s:
        histogram.record(duration_s)
    return histogram


@given(DURATIONS)
def test_percentiles_are_numpys_within_the_error(durations_s: list[float]) -> None:
    measured = recorded(durations_s).percentiles_s(PERCENTS)
    expected = np.percentile(durations_s, PERCENTS, method="inverted_cdf")
    for measured_s, expected_s in zip(measured, expected, strict=True):
        assert measured_s >= expected_s * (1 - 1e-12)
        assert measured_s <= expected_s * (1 + RELATIVE_ERROR) + 1.01e-6


@given(DURATIONS, DURATIONS)
def test_adding_is_recording_both(first_s: list[float], second_s: list[float]) -> None:
    histogram = recorded(first_s)
    histogram.add(recorded(second_s))
    both = recorded(first_s + second_s)
    assert histogram.percentiles_s(PERCENTS) == both.percentiles_s(PERCENTS)
    assert (histogram.count, histogram.max_s) == (both.count, both.max_s)
    assert histogram.mean_s == pytest.approx(np.mean(first_s + second_s), abs=1e-9)


def test_nothing_recorded_is_nan() -> None:
    histogram = Histogram()
    assert all(
        math.isnan(value) for value in [*histogram.percentiles_s(PERCENTS), histogram.mean_s]
    )


def test_durations_beyond_the_counters_keep_their_maximum() -> None:
    histogram = recorded([1.0, 1e7, -1e-9])
    assert histogram.count == 3
    assert histogram.max_s == 1e7
    assert histogram.percentiles_s([30])[0] == 0.0
    assert histogram.percentiles_s([100])[0] > 60_000
