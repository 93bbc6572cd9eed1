"""Tests agree with counting all that could have been, and chance is seldom called a difference."""

import itertools
import math

import numpy as np
import pytest

from registry.comparison.paired_tests import (
    MAX_RESAMPLED,
    MCNEMAR,
    SWAPS,
    SWAPS_NORMAL,
    mcnemar,
    swaps,
)


def _by_enumeration(differences: np.ndarray) -> float:
    """The share of all ways to swap that give as great a sum to either side."""
    found = abs(differences.sum())
    signs = itertools.product([1, -1], repeat=len(differences))
    return float(np.mean([abs(np.dot(s, differences)) >= found - 1e-9 for s in signs]))


@pytest.mark.parametrize("n", range(1, 11))
def test_swaps_of_few_examples_are_all_counted(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(5):
        differences = rng.normal(0.5, 1, n).round(1)
        found = swaps(differences)
        assert found.method == SWAPS
        assert found.p_value == pytest.approx(_by_enumeration(differences))


@pytest.mark.parametrize("n", [20, 200, MAX_RESAMPLED])
def test_swaps_of_many_are_about_those_of_the_normal_limit(n: int) -> None:
    differences = np.random.default_rng(0).normal(1.2 / math.sqrt(n), 1, n)
    z = abs(differences.sum()) / math.sqrt((differences**2).sum())
    # 9,999 draws of a p-value have a standard deviation of 0.005 at the most.
    assert swaps(differences).p_value == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.02)


def test_more_are_not_swapped_at_all() -> None:
    differences = np.random.default_rng(0).normal(0.05, 1, MAX_RESAMPLED + 1)
    z = abs(differences.sum()) / math.sqrt((differences**2).sum())
    found = swaps(differences)
    assert found.method == SWAPS_NORMAL
    assert found.p_value == pytest.approx(math.erfc(z / math.sqrt(2)))


def test_swaps_are_the_same_each_time_and_of_either_side() -> None:
    differences = np.random.default_rng(0).normal(0.2, 1, 100)
    assert swaps(differences) == swaps(differences)
    assert swaps(-differences).p_value == pytest.approx(swaps(differences).p_value, abs=0.02)


def test_equal_models_do_not_differ() -> None:
    assert swaps(np.zeros(10)).p_value == 1
    assert mcnemar(np.ones(10, bool), np.ones(10, bool)).p_value == 1


@pytest.mark.parametrize("only_a", range(6))
@pytest.mark.parametrize("only_b", range(6))
def test_mcnemar_counts_coins(only_a: int, only_b: int) -> None:
    counts = [3, only_a, only_b, 4]
    a = np.repeat(np.array([1, 1, 0, 0], bool), counts)
    b = np.repeat(np.array([1, 0, 1, 0], bool), counts)
    n, few = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, k) for k in range(few + 1)) / 2**n
    found = mcnemar(a, b)
    assert found.method == MCNEMAR
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))
    assert found.p_value == pytest.approx(_by_enumeration(b.astype(float) - a)) or n == 0


def test_chance_is_seldom_called_a_difference() -> None:
    rng = np.random.default_rng(3)
    named = [swaps(rng.standard_t(3, 12)).finds_difference for _ in range(400)]
    assert np.mean(named) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 400)
    named = [
        mcnemar(rng.random(60) < 0.7, rng.random(60) < 0.7).finds_difference for _ in range(400)
    ]
    assert np.mean(named) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 400)
