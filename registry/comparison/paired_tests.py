"""Whether two models differ by more than chance, tested on the same examples.

Both tests ask how often chance alone, in which of the two models did how on an example, would make
as great a difference as was found. They assume nothing but that examples are independent.
"""

from typing import NamedTuple

import numpy as np

# A difference that chance makes less often than this is called one.
SIGNIFICANCE = 0.05

# So many ways to swap are tried at most, all of them where there are no more.
NUM_RESAMPLES = 9_999

# Of more examples that differ, the distribution is as good as normal, and trying takes long.
MAX_RESAMPLED = 2_000

# Numbers that are drawn at once; they are held in memory.
_BATCH_NUMBERS = 2_000_000

# What is drawn is the same each time, so that a comparison is.
_SEED = 0

MCNEMAR = "McNemar's exact test"
SWAPS = "permutation test of swapped pairs"
SWAPS_NORMAL = "permutation test of swapped pairs, in its normal limit"


class PairedTest(NamedTuple):
    """A test of no difference.

    Attributes:
        method: Which.
        p_value: How often chance makes such a difference, or a greater one, to either side.
    """

    method: str
    p_value: float

    @property
    def finds_difference(self) -> bool:
        """Whether chance alone would seldom make such a one."""
        return self.p_value < SIGNIFICANCE


def mcnemar(a: np.ndarray, b: np.ndarray) -> PairedTest:
    """Tests whether something is true in one model as often as in the other.

    Of the examples on which just one of the models is right, each is right on about half, if they
    are equally good: a binomial test with probability 1/2.

    Args:
        a: `[n]` bool.
        b: Likewise, of the same examples.

    Reference: McNemar, "Note on the sampling error of the difference between correlated proportions
    or percentages", 1947; recommended for two classifiers by Dietterich, "Approximate Statistical
    Tests for Comparing Supervised Classification Learning Algorithms", 1998.
    """
    from scipy.stats import binomtest  # takes a second to import

    only_a, only_b = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(~a & b))
    if only_a == only_b:
        return PairedTest(MCNEMAR, 1.0)
    return PairedTest(MCNEMAR, float(binomtest(only_a, only_a + only_b, 0.5).pvalue))


def swaps(differences: np.ndarray) -> PairedTest:
    """Tests whether differences are to either side of 0 alike.

    If the models are equally good, it is chance which of the two did how on an example: to swap
    them there, which turns the sign of its difference, would have been as likely. The sum of all
    differences is compared with the sums of all swaps, or of 9,999 drawn ones; of more than 2,000
    examples with the normal distribution that they tend to.

    Args:
        differences: `[n]`, of each example what is counted of it in one model less in the other.

    Reference: Fisher, "The Design of Experiments", 1935, section 21; Noreen, "Computer-Intensive
    Methods for Testing Hypotheses", 1989; recommended by Dror et al., "The Hitchhiker's Guide to
    Testing Statistical Significance in Natural Language Processing", 2018.
    """
    from scipy.stats import norm, permutation_test

    differences = differences[differences != 0]  # to swap equal ones changes nothing
    if not len(differences):
        return PairedTest(SWAPS, 1.0)
    if len(differences) > MAX_RESAMPLED:
        z = abs(float(differences.sum())) / float(np.sqrt(differences @ differences))
        return PairedTest(SWAPS_NORMAL, float(2 * norm.sf(z)))
    if len(differences) == 1:
        return PairedTest(SWAPS, 1.0)
    found = permutation_test(
        (differences,),
        lambda values, axis: values.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=NUM_RESAMPLES,
        batch=max(1, _BATCH_NUMBERS // len(differences)),
        rng=np.random.default_rng(_SEED),
    )
    return PairedTest(SWAPS, min(1.0, float(found.pvalue)))
