"""The metrics of two artifacts side by side: how far apart, and whether by more than chance."""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from registry.comparison.intervals import (
    Interval,
    of_paired_means,
    of_paired_shares,
    of_unpaired,
)
from registry.comparison.paired_tests import PairedTest, mcnemar, swaps
from registry.comparison.sides import Side
from registry.evaluations import StoredEvaluation

# Of b against a.
Verdict = Literal["better", "worse", "no clear difference", "equal"]

NUM_BINS = 31


class Measured(NamedTuple):
    """A metric of one artifact, and its 95% interval if it has one."""

    value: float
    interval: Interval | None


class Pairs(NamedTuple):
    """Of how many examples both models are right, or one alone, or neither."""

    both: int
    only_a: int
    only_b: int
    neither: int


class Histogram(NamedTuple):
    """How many examples have which difference, that of `b` less that of `a`.

    Attributes:
        edges: `[NUM_BINS + 1]`, ascending; the middle of the middle bin is 0.
        counts: `[NUM_BINS]`, of differences in [edges[i], edges[i + 1]), in the last one up to its
            end.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class MetricComparison(NamedTuple):
    """A metric of two artifacts.

    Attributes:
        name: Of the metric.
        a: Of the one; None: it was not measured.
        b: Of the other.
        higher_is_better: Whether more of it is; None: nobody says.
        difference: `b - a`; None: it was measured of one alone.
        interval: 95%, of the difference; None: there is none that would be honest.
        paired: Whether interval and test are of the same examples, one by one.
        test: Of no difference; None: examples are not the same, or no mean is behind the metric.
        verdict: Of `b` against `a`, if there is ground for one.
        examples: Of the same examples, how they differ.
    """

    name: str
    a: Measured | None
    b: Measured | None
    higher_is_better: bool | None = None
    difference: float | None = None
    interval: Interval | None = None
    paired: bool = False
    test: PairedTest | None = None
    verdict: Verdict | None = None
    examples: Pairs | Histogram | None = None


def compare_metrics(a: Side, b: Side) -> list[MetricComparison]:
    """Compares every metric that either has; of the evaluations if both have one.

    Otherwise those are compared that training measured, whose examples nobody knows to be the same.
    """
    measured_a, measured_b = measured(a, b)
    paired = same_examples(a.evaluation, b.evaluation)
    directions: Mapping[str, bool] = {}
    for side in (a, b):
        if side.evaluation is not None:
            directions = {**directions, **side.evaluation.evaluation.higher_is_better}
    pair = None
    if paired and a.evaluation is not None and b.evaluation is not None:
        pair = (a.evaluation, b.evaluation)
    both = {name: (measured_a.get(name), measured_b.get(name)) for name in measured_a | measured_b}
    return [
        compare_metric(MetricComparison(name, *values, directions.get(name)), pair)
        for name, values in sorted(both.items())
    ]


def measured(a: Side, b: Side) -> tuple[dict[str, Measured], dict[str, Measured]]:
    """Returns the metrics that are compared, of each side by name."""
    if a.evaluation is None or b.evaluation is None:
        return _measured(a.artifact), _measured(b.artifact)
    return _measured(a.evaluation.evaluation), _measured(b.evaluation.evaluation)


def _measured(of: object) -> dict[str, Measured]:
    """Of an Artifact or an Evaluation, which name their fields alike."""
    intervals = of.metric_intervals  # type: ignore[attr-defined]
    return {
        name: Measured(
            value,
            Interval(intervals[name].low, intervals[name].high) if name in intervals else None,
        )
        for name, value in of.metrics.items()  # type: ignore[attr-defined]
    }


def same_examples(a: StoredEvaluation | None, b: StoredEvaluation | None) -> bool:
    """Returns whether two evaluations can be compared example by example."""
    if a is None or b is None:
        return False
    ours, theirs = a.evaluation.data, b.evaluation.data
    return (ours.examples_digest, ours.num_examples) == (
        theirs.examples_digest,
        theirs.num_examples,
    ) and np.array_equal(a.weights, b.weights)


def compare_metric(
    found: MetricComparison, pair: tuple[StoredEvaluation, StoredEvaluation] | None
) -> MetricComparison:
    """Compares one metric.

    Args:
        found: What is known of it: of `a` and of `b`.
        pair: The evaluations that it is of, if they are of the same examples; None: they are not.
    """
    of_a, of_b = found.a, found.b
    if of_a is None or of_b is None:
        return found
    found = found._replace(difference=_finite(of_b.value - of_a.value))
    if pair is not None:
        a, b = pair[0].outcomes.get(found.name), pair[1].outcomes.get(found.name)
        if a is not None and b is not None and a.dtype == b.dtype:
            return _with_verdict(_compare_pairs(found, a, b, pair[0].weights))
    elif of_a.interval is not None and of_b.interval is not None:
        interval = of_unpaired(of_a.value, of_a.interval, of_b.value, of_b.interval)
        is_finite = all(map(math.isfinite, interval))
        return _with_verdict(found._replace(interval=interval if is_finite else None))
    return found


def _finite(number: float) -> float | None:
    """Of two huge numbers the difference may be infinite, which no JSON has."""
    return number if math.isfinite(number) else None


def _compare_pairs(
    found: MetricComparison, a: np.ndarray, b: np.ndarray, weights: np.ndarray
) -> MetricComparison:
    if a.dtype == bool:
        return found._replace(
            paired=True,
            interval=of_paired_shares(a, b),
            test=mcnemar(a, b),
            examples=_pairs(a, b),
        )
    differences = b - a
    return found._replace(
        paired=True,
        interval=of_paired_means(differences, weights),
        test=swaps(differences),
        examples=histogram(differences),
    )


def _with_verdict(found: MetricComparison) -> MetricComparison:
    """Says which is better, by the test if there is one and else by the interval."""
    if found.higher_is_better is None or found.difference is None:
        return found
    if found.test is not None:
        clear = found.test.finds_difference
    else:
        clear = found.interval is not None and not (found.interval.low <= 0 <= found.interval.high)
    verdict: Verdict
    if found.difference == 0 and (found.test is None or found.test.p_value == 1):
        verdict = "equal"
    elif not clear:
        verdict = "no clear difference"
    else:
        verdict = "better" if (found.difference > 0) == found.higher_is_better else "worse"
    return found._replace(verdict=verdict)


def _pairs(a: np.ndarray, b: np.ndarray) -> Pairs:
    cells = (a & b, a & ~b, ~a & b, ~a & ~b)
    return Pairs(*(int(np.count_nonzero(cell)) for cell in cells))


def histogram(differences: np.ndarray) -> Histogram:
    """Returns how differences are spread, in bins of equal width, as many to either side of 0."""
    reach = float(np.abs(differences).max()) or 1.0
    counts, edges = np.histogram(differences, bins=NUM_BINS, range=(-reach, reach))
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()))
