"""Which checkpoints stay."""

from collections.abc import Collection, Mapping

from train.config.checkpoint import CheckpointConfig


def kept(
    steps: Collection[int],
    policy: CheckpointConfig,
    scores: Mapping[int, float],
    held: int | None = None,
) -> set[int]:
    """Returns those of a run's checkpoints that stay: the newest, the best, those kept for good.

    Args:
        steps: After which there is one.
        policy: See `CheckpointConfig`.
        scores: Of those that were evaluated, what `policy` asks for; more is better. Of equals the
            earlier is better.
        held: One that is to stay whatever the policy says.
    """
    stay = set(sorted(steps)[-policy.keep_last :])
    if policy.keep_every_steps is not None:
        stay |= {step for step in steps if step % policy.keep_every_steps == 0}
    if policy.keep_best is not None:
        scored = sorted(set(steps) & set(scores), key=lambda step: (-scores[step], step))
        stay |= set(scored[: policy.keep_best])
    return stay | {step for step in steps if step == held}
