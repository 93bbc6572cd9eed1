"""Learning-rate schedules: plain functions of the step, the same for optax and for torch.

All rise linearly from `peak / warmup_steps` at step 0, never zero, to `peak`; they differ in how
they fall. Steps are counted from 0, and steps after `num_steps` keep the final rate. optax, which
traces the step, takes them from `optim.jax.schedule.tabulate`.

All raise a ValueError for what is out of its range.
"""

import math


def warmup_cosine(
    step: int, *, peak: float, num_steps: int, warmup_steps: int, final_fraction: float = 0.0
) -> float:
    """Rises linearly to `peak`, then falls along half a cosine to `final_fraction * peak`.

    Args:
        step: The training step.
        peak: The highest learning rate.
        num_steps: Steps in the whole run.
        warmup_steps: Steps of the rise, < num_steps.
        final_fraction: Final rate / peak.

    Reference: Loshchilov and Hutter, "SGDR", https://arxiv.org/abs/1608.03983; warm-up as in
    Goyal et al., https://arxiv.org/abs/1706.02677.
    """
    _check(step, peak, num_steps, warmup_steps, final_fraction)
    if step < warmup_steps:
        return _warmup(step, peak, warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * _progress(step, warmup_steps, num_steps)))
    return peak * (final_fraction + (1.0 - final_fraction) * cosine)


def warmup_cosine_restarts(
    step: int,
    *,
    peak: float,
    num_steps: int,
    warmup_steps: int,
    num_restarts: int,
    growth: float = 1.0,
    final_fraction: float = 0.0,
) -> float:
    """Rises linearly to `peak`, then falls along several half cosines, each from `peak`.

    The cycles fill the steps after the warm-up, so that the last one ends with the run.

    Args:
        step: The training step.
        peak: The highest learning rate.
        num_steps: Steps in the whole run.
        warmup_steps: Steps of the rise, < num_steps.
        num_restarts: Times that the rate is back at the peak, from 1 up.
        growth: Length of a cycle over that of the one before it, from 1 up.
        final_fraction: Rate at the end of a cycle / peak.

    Reference: Loshchilov and Hutter, "SGDR", https://arxiv.org/abs/1608.03983.
    """
    _check(step, peak, num_steps, warmup_steps, final_fraction)
    _require(num_restarts >= 1, "num_restarts from 1 up", num_restarts)
    _require(1.0 <= growth < math.inf, "a finite growth from 1 up", growth)
    if step < warmup_steps:
        return _warmup(step, peak, warmup_steps)
    lengths = [growth**cycle for cycle in range(num_restarts + 1)]
    # In lengths of the first cycle.
    left = _progress(step, warmup_steps, num_steps) * sum(lengths)
    for length in lengths[:-1]:
        if left < length:
            break
        left -= length
    else:
        length = lengths[-1]
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(left / length, 1.0)))
    return peak * (final_fraction + (1.0 - final_fraction) * cosine)


def warmup_polynomial(
    step: int,
    *,
    peak: float,
    num_steps: int,
    warmup_steps: int,
    final_fraction: float = 0.0,
    power: float = 1.0,
) -> float:
    """Rises linearly to `peak`, then falls to `final_fraction * peak` as a power of what is left.

    Args:
        step: The training step.
        peak: The highest learning rate.
        num_steps: Steps in the whole run.
        warmup_steps: Steps of the rise, < num_steps.
        final_fraction: Final rate / peak.
        power: > 0; 1 falls linearly.
    """
    _check(step, peak, num_steps, warmup_steps, final_fraction)
    _require(0.0 < power < math.inf, "a power above 0", power)
    if step < warmup_steps:
        return _warmup(step, peak, warmup_steps)
    left = (1.0 - _progress(step, warmup_steps, num_steps)) ** power
    return peak * (final_fraction + (1.0 - final_fraction) * left)


def warmup_stable_decay(
    step: int,
    *,
    peak: float,
    num_steps: int,
    warmup_steps: int,
    decay_steps: int,
    final_fraction: float = 0.0,
) -> float:
    """Rises linearly to `peak`, stays, and falls linearly to `final_fraction * peak` at the end.

    Args:
        step: The training step.
        peak: The highest learning rate.
        num_steps: Steps in the whole run.
        warmup_steps: Steps of the rise, < num_steps.
        decay_steps: Steps of the fall, in 1..num_steps - warmup_steps.
        final_fraction: Final rate / peak.

    Reference: Hu et al., "MiniCPM", https://arxiv.org/abs/2404.06395.
    """
    _check(step, peak, num_steps, warmup_steps, final_fraction)
    most = num_steps - warmup_steps
    _require(1 <= decay_steps <= most, f"decay_steps from 1 to {most}", decay_steps)
    if step < warmup_steps:
        return _warmup(step, peak, warmup_steps)
    start = num_steps - decay_steps
    if step < start:
        return peak
    return peak * (1.0 - (1.0 - final_fraction) * _progress(step, start, num_steps))


def _check(
    step: int, peak: float, num_steps: int, warmup_steps: int, final_fraction: float
) -> None:
    _require(step >= 0, "a step from 0 up", step)
    _require(0.0 <= peak < math.inf, "a finite peak from 0 up", peak)
    _require(
        0 <= warmup_steps < num_steps,
        f"warmup_steps from 0 up and less than num_steps ({num_steps})",
        warmup_steps,
    )
    _require(0.0 <= final_fraction < math.inf, "a finite final_fraction from 0 up", final_fraction)


def _require(holds: bool, what: str, value: float) -> None:
    if not holds:
        raise ValueError(f"expected {what}, got {value}")


def _warmup(step: int, peak: float, warmup_steps: int) -> float:
    return peak * (step + 1) / warmup_steps


def _progress(step: int, start: int, stop: int) -> float:
    return min((step - start) / (stop - start), 1.0)
