"""What a metric of held-out examples says of all examples: a value and its 95% interval.

An interval is of the draw of examples, which are taken to be independent, and of one model: not of
the seed that the model was trained from.
"""

import math
from typing import NamedTuple

import numpy as np

# Of the standard normal distribution, between whose negative and it lie 95%.
_Z = 1.959963984540054

Interval = tuple[float, float]


class Estimate(NamedTuple):
    """A metric.

    Attributes:
        value: Of the examples.
        interval: That holds the value of all examples in 95 of 100 draws of so many examples; None:
            there is none that would be honest.
    """

    value: float
    interval: Interval | None = None


def share(count: float, total: float) -> Estimate:
    """Returns which share of independent examples something is true of, with Wilson's interval.

    It is in [0, 1] and right also where the share is near 0 or 1, or of few examples.

    Args:
        count: Number of examples that it is true of.
        total: Number of all, > 0.

    Reference: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927;
    method 3 of Newcombe, "Two-sided confidence intervals for the single proportion", 1998.
    """
    p, spread = count / total, _Z**2 / total
    half = _Z * math.sqrt(p * (1 - p) / total + spread / (4 * total))
    centre, whole = p + spread / 2, 1 + spread
    low, high = (centre - half) / whole, (centre + half) / whole
    # At the ends it reaches them, which rounding may miss.
    return Estimate(p, (min(max(low, 0.0), p), max(min(high, 1.0), p)))


def moments(sums: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Returns what `ratio` needs of a batch of examples; such parts of a whole add up.

    Args:
        sums: `[num_examples]`, of each example the sum of a value over all that is counted of it,
            such as the losses of its tokens.
        weights: `[num_examples]`, of each example how many that are. None: 1.

    Returns:
        `[6]` float64.
    """
    sums = sums.astype(np.float64)
    weights = np.ones_like(sums) if weights is None else weights.astype(np.float64)
    squares = (sums @ sums, sums @ weights, weights @ weights)
    return np.array([np.count_nonzero(weights), sums.sum(), weights.sum(), *squares])


def ratio(total: np.ndarray) -> Estimate:
    """Returns the mean of a value that is never negative over all that is counted.

    What is counted of one example, such as the tokens of a text, is not independent: the interval,
    a normal one, is of examples, each a cluster of its own. Of one example there is none.

    Args:
        total: Of `moments`; something is counted.

    Reference: the variance is that of a ratio estimator, Cochran, "Sampling Techniques", 1977,
    (6.13); where all weights are 1 it is that of a mean.
    """
    mean, deviation = _mean_and_deviation(total)
    if deviation is None:
        return Estimate(mean)
    return Estimate(mean, (max(0.0, mean - _Z * deviation), mean + _Z * deviation))


def clustered_share(total: np.ndarray) -> Estimate:
    """Returns which share of all that is counted something is true of, as `ratio` does.

    The interval is Wilson's, of as many independent things as would vary as much: no more than are
    counted, and no fewer than 1. Where it is true of all or of none, of as many as examples are.

    Args:
        total: Of `moments`, of 1 for whatever it is true of; something is counted.

    Reference: Dean and Pagano, "Evaluating Confidence Interval Methods for Binomial Proportions in
    Clustered Surveys", 2015.
    """
    mean, deviation = _mean_and_deviation(total)
    effective = float(total[0])
    if deviation:
        effective = min(max(mean * (1 - mean) / deviation**2, 1.0), float(total[2]))
    return share(mean * effective, effective)


def _mean_and_deviation(total: np.ndarray) -> tuple[float, float | None]:
    """Returns the mean, and the standard deviation of such means; None: of one example."""
    num_examples, sums, weights, sums_2, both, weights_2 = map(float, total)
    mean = sums / weights
    if num_examples < 2:
        return mean, None
    residues = max(0.0, sums_2 - 2 * mean * both + mean**2 * weights_2)
    return mean, math.sqrt(residues * num_examples / (num_examples - 1)) / weights


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """Returns the estimate in another unit, of which one has `factor`, > 0."""
    ends = estimate.interval
    return Estimate(
        estimate.value * factor, None if ends is None else (ends[0] * factor, ends[1] * factor)
    )
