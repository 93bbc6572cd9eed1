"""Which evaluations of two artifacts are put side by side, where there are several."""

from collections.abc import Sequence

from registry.comparison.metrics import same_examples
from registry.evaluations import StoredEvaluation


def newest(evaluations: Sequence[StoredEvaluation]) -> StoredEvaluation | None:
    """Returns the one that was measured last; of two at once, that of the greater digest."""
    return max(
        evaluations,
        key=lambda stored: (stored.evaluation.measured_at.ToNanoseconds(), stored.digest),
        default=None,
    )


def choose(
    a: Sequence[StoredEvaluation], b: Sequence[StoredEvaluation]
) -> tuple[StoredEvaluation | None, StoredEvaluation | None]:
    """Returns an evaluation of each that can best be compared; None: of one there is none.

    Of the pairs it takes one of the same examples before others, then one of the same machine, then
    of the same program, and of those left the newest of `b`, and then of `a`.
    """
    if not a or not b:
        return newest(a), newest(b)

    def fitness(pair: tuple[StoredEvaluation, StoredEvaluation]) -> tuple[object, ...]:
        ours, theirs = pair
        first, second = ours.evaluation, theirs.evaluation
        return (
            same_examples(ours, theirs),
            first.host == second.host,
            first.program == second.program,
            second.measured_at.ToNanoseconds(),
            first.measured_at.ToNanoseconds(),
            (theirs.digest, ours.digest),
        )

    return max(((ours, theirs) for ours in a for theirs in b), key=fitness)
