"""95% intervals of the difference between a metric of one model and of another.

Like those of the metrics themselves they are of the draw of examples, and of these two models: not
of the seeds that they were trained from.
"""

import math
from typing import NamedTuple

import numpy as np

# Of the standard normal distribution, between whose negative and it lie 95%.
Z = 1.959963984540054


class Interval(NamedTuple):
    """From one number to another that is not lower."""

    low: float
    high: float


def of_shares(count: float, total: float) -> Interval:
    """Returns Wilson's interval of a share of independent examples.

    Args:
        count: Number of examples that something is true of.
        total: Of all, > 0.

    Reference: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    p, spread = count / total, Z**2 / total
    half = Z * math.sqrt(p * (1 - p) / total + spread / (4 * total))
    low, high = (p + spread / 2 - half) / (1 + spread), (p + spread / 2 + half) / (1 + spread)
    return Interval(min(max(low, 0.0), p), max(min(high, 1.0), p))


def of_paired_shares(a: np.ndarray, b: np.ndarray) -> Interval:
    """Returns the interval of the share that is true in `b` less that in `a`, of the same examples.

    Args:
        a: `[n]` bool, n > 0.
        b: Likewise.

    Reference: method 10 of Newcombe, "Improved confidence intervals for the difference between
    binomial proportions based on paired data", 1998: Wilson's intervals, squared and added, with
    the correlation of the pairs, corrected for continuity.
    """
    n = len(a)
    both, only_b = int(np.count_nonzero(a & b)), int(np.count_nonzero(~a & b))
    only_a = int(np.count_nonzero(a & ~b))
    neither = n - both - only_a - only_b
    count_a, count_b = both + only_a, both + only_b
    margins = count_a * (n - count_a) * count_b * (n - count_b)
    product: float = both * neither - only_a * only_b
    if product > 0:
        product = max(product - n / 2, 0)
    correlation = product / math.sqrt(margins) if margins else 0.0
    low_a, high_a = of_shares(count_a, n)
    low_b, high_b = of_shares(count_b, n)
    return _squared_and_added(
        (count_a / n, low_a, high_a), (count_b / n, low_b, high_b), correlation
    )


def of_paired_means(differences: np.ndarray, weights: np.ndarray) -> Interval | None:
    """Returns the interval of the sum of differences over the sum of weights; None: of one example.

    What is counted of one example, such as the tokens of a text, is not independent: the interval,
    a normal one, is of examples, each a cluster of its own.

    Args:
        differences: `[n]`, of each example what is counted of it in the one less in the other.
        weights: `[n]`, how many things that are; their sum is > 0.

    Reference: the variance is that of a ratio estimator, Cochran, "Sampling Techniques", 1977,
    (6.13); where all weights are 1 it is that of a mean, and the interval that of a paired z-test.
    """
    counted = int(np.count_nonzero(weights))
    if counted < 2:
        return None
    total = float(weights.sum())
    mean = float(differences.sum()) / total
    residues = differences - mean * weights
    deviation = math.sqrt(float(residues @ residues) * counted / (counted - 1)) / total
    return Interval(mean - Z * deviation, mean + Z * deviation)


def of_unpaired(a: float, of_a: Interval, b: float, of_b: Interval) -> Interval:
    """Returns the interval of `b - a`, of independent examples, from the interval of each.

    Of the same examples it is wider than it need be where the models are right on the same ones.

    Reference: Zou and Donner, "Construction of confidence limits about effect measures: a general
    approach", 2008; of Wilson's intervals it is method 10 of Newcombe, "Interval estimation for the
    difference between independent proportions", 1998.
    """
    return _squared_and_added((a, *of_a), (b, *of_b), 0.0)


def _squared_and_added(
    a: tuple[float, float, float], b: tuple[float, float, float], correlation: float
) -> Interval:
    """Of `b - a`, each a value and the ends of its interval."""

    def distance(one: float, other: float) -> float:
        # Rounding may leave what is 0 below it.
        return math.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0))

    difference = b[0] - a[0]
    low = difference - distance(b[0] - b[1], a[2] - a[0])
    high = difference + distance(b[2] - b[0], a[0] - a[1])
    return Interval(low, high)
