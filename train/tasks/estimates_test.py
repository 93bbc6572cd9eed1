"""Intervals are those of textbooks, and hold the truth in 95 of 100 draws."""

import numpy as np
import pytest

from train.tasks.estimates import Estimate, clustered_share, moments, ratio, scaled, share

# Standard deviation of a share of draws is at most 0.5%: this is four of them, and what normal
# intervals of a few dozen skewed values lack.
_DRAWS, _TOLERANCE = 2000, 0.025


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson(count: int, total: int, low: float, high: float) -> None:
    value, interval = share(count, total)
    assert value == count / total
    assert interval == pytest.approx((low, high), abs=5e-5)
    # What is true of the others is the mirror image.
    assert share(total - count, total).interval == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_a_mean_has_the_interval_of_its_standard_error() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=50)
    parts = [moments(part) for part in np.split(values, [7, 20])]
    value, interval = ratio(np.sum(parts, axis=0))
    error = 1.959964 * values.std(ddof=1) / np.sqrt(50)
    assert value == pytest.approx(values.mean())
    assert interval == pytest.approx((values.mean() - error, values.mean() + error), rel=1e-6)


def test_one_example_has_no_interval_of_a_mean() -> None:
    assert ratio(moments(np.array([6.0]), np.array([3]))) == Estimate(2.0, None)


def test_what_is_never_negative_has_no_negative_bound() -> None:
    _, interval = ratio(moments(np.array([0.0, 0.0, 1.0])))
    assert interval is not None
    assert interval[0] == 0.0


def test_another_unit() -> None:
    assert scaled(Estimate(2.0, (1.0, 4.0)), 0.5) == Estimate(1.0, (0.5, 2.0))
    assert scaled(Estimate(2.0), 3.0) == Estimate(6.0)


def _texts(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws for 60 texts how many tokens they have, and of each text how hard it is, in (0, 1)."""
    return rng.integers(1, 30, 60), rng.beta(2.0, 2.0, 60)


def _covered(estimates: list[Estimate], truth: float) -> float:
    ends = np.array([estimate.interval for estimate in estimates])
    return float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))


def test_intervals_of_shares_cover() -> None:
    rng = np.random.default_rng(1)
    for p in (0.03, 0.4, 0.97):
        estimates = [share(count, 100) for count in rng.binomial(100, p, _DRAWS)]
        assert _covered(estimates, p) == pytest.approx(0.95, abs=_TOLERANCE)


def test_intervals_of_tokens_of_texts_cover() -> None:
    rng, shares, losses, blind = np.random.default_rng(2), [], [], []
    for _ in range(_DRAWS):
        lengths, hardness = _texts(rng)
        right = rng.binomial(lengths, hardness)
        shares.append(clustered_share(moments(right, lengths)))
        losses.append(ratio(moments(rng.gamma(lengths, hardness), lengths)))
        blind.append(share(right.sum(), lengths.sum()))
    assert _covered(shares, 0.5) == pytest.approx(0.95, abs=_TOLERANCE)
    assert _covered(losses, 0.5) == pytest.approx(0.95, abs=_TOLERANCE)
    # As if all tokens were independent: far too narrow.
    assert _covered(blind, 0.5) < 0.8


@pytest.mark.parametrize("right", [0, 1])
def test_none_or_all_tokens_right_are_not_certain(right: int) -> None:
    lengths = np.full(20, 50)
    assert clustered_share(moments(right * lengths, lengths)) == share(right * 20, 20)


def test_independent_tokens_vary_as_examples_do() -> None:
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 30, 400)
    right = rng.binomial(lengths, 0.7)
    clustered, plain = clustered_share(moments(right, lengths)), share(right.sum(), lengths.sum())
    assert clustered.interval == pytest.approx(plain.interval, abs=0.002)
