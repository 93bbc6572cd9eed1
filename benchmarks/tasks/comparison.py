"""Whether training with a variant ends where the baseline ends, from runs paired by seed.

Runs of one seed have the same initial weights and batches, so the noise that seeds bring is nearly
gone from a pair's difference. The margin for "equal" is that noise: the standard deviation of the
baseline's results over seeds.
"""

import enum
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

# Of each test by itself; with many tests, one in twenty of those without a difference errs.
SIGNIFICANCE = 0.05


class Verdict(enum.StrEnum):
    """What the two tests say together."""

    EQUAL = "equal within seed noise"
    DIFFERS = "DIFFERS"
    UNDECIDED = "undecided"


class Comparison(NamedTuple):
    """A variant beside the baseline.

    Attributes:
      mean: of the variant's results.
      deviation: their standard deviation over seeds; NaN for one seed, as what follows from it.
      difference: mean of (variant - baseline) over the pairs.
      standard_error: of `difference`.
      distance: root mean square of (variant - baseline) over the pairs.
      margin: differences smaller than this count as equal.
      p_equal: of the null hypothesis that the true difference is not within the margin.
      p_differs: of the null hypothesis that the true difference is zero.
      verdict: equal if p_equal is significant, else that it differs if p_differs is.
    """

    mean: float
    deviation: float
    difference: float
    standard_error: float
    distance: float
    margin: float
    p_equal: float
    p_differs: float
    verdict: Verdict


def deviation(values: Sequence[float]) -> float:
    """Returns the standard deviation of a sample; NaN of fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def compare(variant: Sequence[float], baseline: Sequence[float], margin: float) -> Comparison:
    """Compares results that are paired: entry i of both is of one seed.

    Args:
      variant: results, at least one; not finite where training diverged.
      baseline: results, as many.
      margin: for "equal".

    Returns:
      The comparison; of results that are not finite, that it differs.

    Reference: Schuirmann, "A comparison of the two one-sided tests procedure and the power approach
    for assessing the equivalence of average bioavailability", 1987.
    """
    mean = float(np.mean(variant))
    if not math.isfinite(mean):
        nan = math.nan
        return Comparison(mean, nan, nan, nan, nan, margin, nan, nan, Verdict.DIFFERS)
    differences = np.subtract(variant, baseline)
    count, difference = len(differences), float(np.mean(differences))
    error = deviation(differences.tolist()) / math.sqrt(count)
    p_equal, p_differs = _p_values(difference, error, count - 1, margin)
    if p_equal < SIGNIFICANCE:
        verdict = Verdict.EQUAL
    else:
        verdict = Verdict.DIFFERS if p_differs < SIGNIFICANCE else Verdict.UNDECIDED
    return Comparison(
        mean=mean,
        deviation=deviation(variant),
        difference=difference,
        standard_error=error,
        distance=float(np.sqrt(np.mean(differences**2))),
        margin=margin,
        p_equal=p_equal,
        p_differs=p_differs,
        verdict=verdict,
    )


def _p_values(difference: float, error: float, freedom: int, margin: float) -> tuple[float, float]:
    if error == 0:  # every pair has the same difference: nothing is left to chance
        return float(not abs(difference) < margin), float(difference == 0)
    inside = (margin - abs(difference)) / error  # the nearer of the two one-sided tests decides
    p_equal = float(stats.t.sf(inside, freedom))
    p_differs = float(2 * stats.t.sf(abs(difference) / error, freedom))
    return p_equal, p_differs


def probability_in_words(p: float) -> str:
    """Returns a p-value for a table; a dash for NaN."""
    if math.isnan(p):
        return "-"
    return f"{p:.3f}" if p >= 0.001 else "<0.001"
