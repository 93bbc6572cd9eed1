"""Intervals are those that were published, and hold the truth in 95 of 100 draws."""

import numpy as np
import pytest

from registry.comparison.intervals import (
    Interval,
    of_paired_means,
    of_paired_shares,
    of_shares,
    of_unpaired,
)

# Standard deviation of a share of draws is at most 0.5%: this is four of them, and what such
# intervals lack or have too much of few examples.
_DRAWS, _TOLERANCE = 2000, 0.025


def _pairs(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, only_a, only_b, neither]
    return tuple(np.repeat(np.array(row, bool), counts) for row in ([1, 1, 0, 0], [1, 0, 1, 0]))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        # Fagerland, Lydersen and Laake, "Statistical Analysis of Contingency Tables", 2017, chapter
        # 8: the examples of Cavo et al. and of Bentur et al., by their R package contingencytables.
        ((59, 6, 16, 80), -0.1186, -0.0046),
        ((1, 1, 7, 12), -0.507, -0.026),
        # Altman et al., "Statistics with Confidence", 2000, table 6.2.
        ((14, 5, 0, 22), 0.0115, 0.2265),
    ],
)
def test_of_paired_shares_is_newcombes(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    first, second = _pairs(*counts)
    # They subtract the second from the first.
    assert of_paired_shares(second, first) == pytest.approx((low, high), abs=5.1e-4)
    assert of_paired_shares(first, second) == pytest.approx((-high, -low), abs=5.1e-4)


def test_of_shares_is_wilsons() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I.
    for count, total, low, high in [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611)]:
        assert of_shares(count, total) == pytest.approx((low, high), abs=5e-5)


def test_of_unpaired_shares_is_newcombes() -> None:
    # Newcombe, "Interval estimation for the difference between independent proportions", 1998,
    # table II, method 10: 56/70 less 48/80, and 9/10 less 3/10.
    for (a, m), (b, n), low, high in [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
    ]:
        found = of_unpaired(b / n, of_shares(b, n), a / m, of_shares(a, m))
        assert found == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("counts", [(0, 0, 0, 9), (9, 0, 0, 0), (0, 0, 9, 0), (0, 9, 0, 0)])
def test_where_all_examples_are_alike_there_is_an_interval(
    counts: tuple[int, int, int, int],
) -> None:
    a, b = _pairs(*counts)
    low, high = of_paired_shares(a, b)
    assert -1 <= low <= b.mean() - a.mean() <= high <= 1
    assert low < high


def test_of_paired_means_is_that_of_the_standard_error() -> None:
    differences = np.random.default_rng(0).gamma(2.0, size=50)
    error = 1.959964 * differences.std(ddof=1) / np.sqrt(50)
    found = of_paired_means(differences, np.ones(50))
    assert found == pytest.approx((differences.mean() - error, differences.mean() + error))


def test_of_one_example_there_is_none() -> None:
    assert of_paired_means(np.array([1.0, 0.0]), np.array([3.0, 0.0])) is None


def _covered(intervals: list[Interval | None], truth: float) -> float:
    ends = np.array(intervals)
    return float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))


def test_intervals_of_paired_shares_cover() -> None:
    rng, found = np.random.default_rng(1), []
    for _ in range(_DRAWS):
        hardness = rng.random(100)  # the same for both
        a, b = rng.random(100) < hardness, rng.random(100) < hardness**2
        found.append(of_paired_shares(a, b))
    assert _covered(list(found), 1 / 3 - 1 / 2) == pytest.approx(0.95, abs=_TOLERANCE)


def test_intervals_of_tokens_of_texts_cover() -> None:
    rng, found = np.random.default_rng(2), []
    for _ in range(_DRAWS):
        lengths, gain = rng.integers(1, 30, 60), rng.normal(0.1, 0.3, 60)
        found.append(of_paired_means(rng.normal(gain * lengths, 1.0), lengths.astype(float)))
    assert _covered(found, 0.1) == pytest.approx(0.95, abs=_TOLERANCE)
