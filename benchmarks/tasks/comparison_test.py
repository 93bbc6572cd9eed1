"""The tests are scipy's own, and say what they should of cases with a known answer."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.tasks.comparison import SIGNIFICANCE, Verdict, compare, deviation

_RNG = np.random.default_rng(0)


def test_matches_scipy() -> None:
    baseline = _RNG.normal(2.0, 0.1, 6)
    variant = baseline + _RNG.normal(0.02, 0.05, 6)
    found = compare(variant.tolist(), baseline.tolist(), margin=0.1)
    differences = variant - baseline
    assert found.p_differs == pytest.approx(stats.ttest_rel(variant, baseline).pvalue)
    below = stats.ttest_1samp(differences, 0.1, alternative="less").pvalue
    above = stats.ttest_1samp(differences, -0.1, alternative="greater").pvalue
    assert found.p_equal == pytest.approx(max(below, above))
    assert found.standard_error == pytest.approx(stats.sem(differences))
    assert found.distance == pytest.approx(np.linalg.norm(differences) / math.sqrt(6))
    assert found.mean == pytest.approx(variant.mean())
    assert found.deviation == pytest.approx(stats.tstd(variant))


def test_verdicts() -> None:
    baseline = [1.0, 1.2, 1.1, 1.3, 0.9]
    noise = np.array([1, -1, 2, -2, 0.5]) * 1e-3
    margin = deviation(baseline)
    for shift, spread, verdict in (
        (0.0, 1.0, Verdict.EQUAL),
        (0.01, 1.0, Verdict.EQUAL),  # significant, and yet within the noise of seeds
        (0.5, 1.0, Verdict.DIFFERS),
        (-0.5, 1.0, Verdict.DIFFERS),
        (0.0, 300.0, Verdict.UNDECIDED),
    ):
        variant = np.array(baseline) + shift + spread * noise
        assert compare(variant.tolist(), baseline, margin).verdict == verdict


@pytest.mark.parametrize(
    ("shift", "verdict"),
    [(0.0, Verdict.EQUAL), (0.25, Verdict.EQUAL), (0.5, Verdict.DIFFERS), (1.0, Verdict.DIFFERS)],
)
def test_the_same_difference_for_every_seed(shift: float, verdict: Verdict) -> None:
    baseline = [1.0, 2.0, 4.0]
    found = compare([value + shift for value in baseline], baseline, margin=0.5)
    assert (found.standard_error, found.verdict) == (0.0, verdict)


def test_divergence_differs() -> None:
    for value in (math.nan, math.inf):
        assert compare([1.0, value], [1.0, 1.1], margin=0.1).verdict == Verdict.DIFFERS


def test_one_seed_decides_nothing() -> None:
    found = compare([1.0], [1.0], margin=0.1)
    assert found.verdict == Verdict.UNDECIDED
    assert math.isnan(found.p_equal) and math.isnan(found.standard_error)
    assert compare([1.0, 1.0], [1.0, 1.1], margin=math.nan).verdict == Verdict.UNDECIDED


def test_errors_are_as_rare_as_promised() -> None:
    """At the margin itself, "equal" is said in about one of twenty trials."""
    trials, seeds, margin = 4000, 5, 1.0
    baseline = [0.0] * seeds
    variants = np.random.default_rng(1).normal(margin, 0.3, (trials, seeds))
    equal = sum(compare(v.tolist(), baseline, margin).verdict == Verdict.EQUAL for v in variants)
    error = math.sqrt(SIGNIFICANCE * (1 - SIGNIFICANCE) / trials)
    assert abs(equal / trials - SIGNIFICANCE) < 4 * error
