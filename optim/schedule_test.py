"""The schedule has the values of its formula, and optax agrees."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import optax
import pytest
import torch

from optim.schedule import (
    warmup_cosine,
    warmup_cosine_restarts,
    warmup_polynomial,
    warmup_stable_decay,
)

PEAK, NUM_STEPS, WARMUP_STEPS, FINAL_FRACTION = 0.3, 110, 10, 0.1

# optax computes in float32.
FLOAT32_TOLERANCE = 1e-6


def _rate(step: int, final_fraction: float = FINAL_FRACTION) -> float:
    return warmup_cosine(
        step,
        peak=PEAK,
        num_steps=NUM_STEPS,
        warmup_steps=WARMUP_STEPS,
        final_fraction=final_fraction,
    )


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, PEAK / 10),
        (4, PEAK / 2),
        (9, PEAK),
        (10, PEAK),
        (35, PEAK * (0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)),  # a quarter of the way down
        (60, PEAK * 0.55),  # half of it
        (110, PEAK * 0.1),
        (10_000, PEAK * 0.1),
    ],
)
def test_known_values(step: int, expected: float) -> None:
    assert _rate(step) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("num_restarts", "growth", "first"), [(4, 1, 20), (2, 2, 15), (1, 3, 25)])
def test_restarts_as_torch_does(num_restarts: int, growth: int, first: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    restarts = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, T_0=first, T_mult=growth, eta_min=PEAK * FINAL_FRACTION
    )
    num_steps = WARMUP_STEPS + first * sum(growth**cycle for cycle in range(num_restarts + 1))
    rates = []
    for step in range(num_steps):
        rate = warmup_cosine_restarts(
            step,
            peak=PEAK,
            num_steps=num_steps,
            warmup_steps=WARMUP_STEPS,
            num_restarts=num_restarts,
            growth=growth,
            final_fraction=FINAL_FRACTION,
        )
        if step < WARMUP_STEPS:
            assert rate == pytest.approx(PEAK * (step + 1) / WARMUP_STEPS)
            continue
        rates.append(rate)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        restarts.step()
    assert sum(rate == pytest.approx(PEAK, rel=1e-12) for rate in rates) == num_restarts + 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_restarts": 0}, "expected num_restarts from 1 up, got 0"),
        ({"growth": 0.5}, "expected a finite growth from 1 up, got 0.5"),
    ],
)
def test_restarts_that_are_none_are_refused(wrong: dict[str, Any], message: str) -> None:
    settings = {"peak": PEAK, "num_steps": 9, "warmup_steps": 0, "num_restarts": 1}
    with pytest.raises(ValueError, match=message):
        warmup_cosine_restarts(0, **{**settings, **wrong})


def test_falls_as_optax_does() -> None:
    decay = optax.cosine_decay_schedule(PEAK, NUM_STEPS - WARMUP_STEPS, alpha=FINAL_FRACTION)
    for step in range(WARMUP_STEPS, NUM_STEPS + 5):
        assert _rate(step) == pytest.approx(
            float(decay(step - WARMUP_STEPS)), rel=FLOAT32_TOLERANCE
        )


def test_rises_then_falls() -> None:
    rates = [_rate(step, final_fraction=0.0) for step in range(NUM_STEPS + 1)]
    assert rates[:WARMUP_STEPS] == sorted(rates[:WARMUP_STEPS])
    assert rates[WARMUP_STEPS:] == sorted(rates[WARMUP_STEPS:], reverse=True)
    assert rates[0] > 0.0
    assert rates[-1] == 0.0


def test_without_warmup_starts_at_the_peak() -> None:
    assert warmup_cosine(0, peak=PEAK, num_steps=5, warmup_steps=0) == PEAK


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_polynomial_rises_and_falls_as_optax_does(power: float) -> None:
    decay = optax.polynomial_schedule(
        PEAK, PEAK * FINAL_FRACTION, power, NUM_STEPS - WARMUP_STEPS, WARMUP_STEPS
    )
    for step in range(NUM_STEPS + 5):
        rate = warmup_polynomial(
            step,
            peak=PEAK,
            num_steps=NUM_STEPS,
            warmup_steps=WARMUP_STEPS,
            final_fraction=FINAL_FRACTION,
            power=power,
        )
        expected = _rate(step) if step < WARMUP_STEPS else float(decay(step))
        assert rate == pytest.approx(expected, rel=FLOAT32_TOLERANCE)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, PEAK / 10),
        (9, PEAK),
        (10, PEAK),
        (90, PEAK),
        (100, PEAK * 0.55),
        (110, PEAK * 0.1),
        (999, PEAK * 0.1),
    ],
)
def test_stays_before_it_decays(step: int, expected: float) -> None:
    rate = warmup_stable_decay(
        step,
        peak=PEAK,
        num_steps=NUM_STEPS,
        warmup_steps=WARMUP_STEPS,
        decay_steps=20,
        final_fraction=FINAL_FRACTION,
    )
    assert rate == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": -3}, "a step from 0 up, got -3"),
        ({"peak": math.nan}, "a finite peak from 0 up, got nan"),
        ({"peak": -0.1}, "a finite peak from 0 up, got -0.1"),
        ({"warmup_steps": NUM_STEPS}, r"less than num_steps \(110\), got 110"),
        ({"warmup_steps": -1}, "warmup_steps from 0 up"),
        ({"final_fraction": math.inf}, "a finite final_fraction from 0 up, got inf"),
    ],
)
@pytest.mark.parametrize(
    "schedule",
    [warmup_cosine, warmup_polynomial, partial(warmup_stable_decay, decay_steps=20)],
)
def test_refuses_what_is_out_of_range(
    schedule: Callable[..., float], change: dict[str, float], message: str
) -> None:
    settings = {"step": 5, "peak": PEAK, "num_steps": NUM_STEPS, "warmup_steps": WARMUP_STEPS}
    with pytest.raises(ValueError, match=message):
        schedule(**{**settings, **change})


def test_refuses_falls_that_are_none() -> None:
    settings: dict[str, Any] = {"step": 5, "peak": PEAK, "num_steps": 50, "warmup_steps": 10}
    with pytest.raises(ValueError, match="a power above 0, got -1"):
        warmup_polynomial(**settings, power=-1.0)
    for decay_steps in (0, 41):
        with pytest.raises(ValueError, match=f"decay_steps from 1 to 40, got {decay_steps}"):
            warmup_stable_decay(**settings, decay_steps=decay_steps)
