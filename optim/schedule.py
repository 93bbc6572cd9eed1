"""Learning-rate schedules: plain functions of the step, the same for optax and for torch."""

import math


def warmup_cosine(
    step: int, *, peak: float, num_steps: int, warmup_steps: int, final_fraction: float = 0.0
) -> float:
    """Rises linearly to `peak`, then falls along half a cosine to `final_fraction * peak`.

    Args:
        step: The training step, counted from 0; steps after `num_steps` keep the final rate.
        peak: The highest learning rate.
        num_steps: Steps in the whole run.
        warmup_steps: Steps of the rise, < num_steps; step 0 gets `peak / warmup_steps`, never zero.
        final_fraction: Final rate / peak.

    Reference: Loshchilov and Hutter, "SGDR", https://arxiv.org/abs/1608.03983; warm-up as in
    Goyal et al., https://arxiv.org/abs/1706.02677.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min((step - warmup_steps) / (num_steps - warmup_steps), 1.0)
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    return peak * (final_fraction + (1.0 - final_fraction) * cosine)
