"""Which checkpoints stay."""

from collections.abc import Collection

from train.config.checkpoint import CheckpointConfig


def kept(steps: Collection[int], policy: CheckpointConfig) -> set[int]:
    """Returns those of a run's checkpoints that stay: the newest, and those kept for good.

    Args:
        steps: After which there is one.
        policy: See `CheckpointConfig`.
    """
    stay = set(sorted(steps)[-policy.keep_last :])
    if policy.keep_every_steps is not None:
        stay |= {step for step in steps if step % policy.keep_every_steps == 0}
    return stay
