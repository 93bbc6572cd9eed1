"""Counts of a window against a list of all that happened."""

from hypothesis import given
from hypothesis import strategies as st

from serving.policies.rolling_counts import STEPS, RollingCounts

WINDOW_S = 5.0

events = st.lists(
    st.tuples(st.floats(0, 4 * WINDOW_S), st.integers(0, 1), st.integers(1, 3)), max_size=60
)


@given(events=events, now=st.floats(0, 5 * WINDOW_S))
def test_all_of_nine_tenths_of_the_window_counts_and_nothing_older(
    events: list[tuple[float, int, int]], now: float
) -> None:
    events = sorted(event for event in events if event[0] <= now)
    counts = RollingCounts(WINDOW_S, 2)
    for at, kind, count in events:
        counts.add(at, kind, count)
    counts.advance(now)
    for kind in range(2):
        ages = [(now - at, count) for at, k, count in events if k == kind]
        certain = sum(count for age, count in ages if age <= WINDOW_S * (1 - 1 / STEPS) - 1e-6)
        possible = sum(count for age, count in ages if age <= WINDOW_S + 1e-6)
        assert certain <= counts.totals[kind] <= possible


def test_a_clock_that_goes_back_forgets_nothing() -> None:
    counts = RollingCounts(WINDOW_S, 1)
    counts.add(100.0, 0)
    counts.add(1.0, 0)
    assert counts.totals == [2]


def test_cleared_counts_are_zero() -> None:
    counts = RollingCounts(WINDOW_S, 2)
    counts.add(1.0, 1)
    counts.clear()
    counts.advance(2.0)
    assert counts.totals == [0, 0]
    counts.advance(100.0)
    assert counts.totals == [0, 0]
