"""The factor moves as PyTorch's does, and as DeepSpeed's does where there is hysteresis."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from deepspeed.runtime.fp16 import loss_scaler

from train.config.precision import LossScalingConfig
from train.loss_scale import LossScale


def _factors(
    config: LossScalingConfig, finite: list[bool], xp: object = np
) -> tuple[list[float], LossScale]:
    state, factors = LossScale.initial(config), []
    for is_finite in finite:
        state = state.after(xp, config, xp.bool_(is_finite))  # type: ignore[arg-type, attr-defined]
        factors.append(float(state.factor))
    return factors, state


def _overflows(seed: int, share: float, length: int = 200) -> list[bool]:
    return list(np.random.default_rng(seed).random(length) >= share)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("growth", "backoff", "interval"), [(2.0, 0.5, 3), (1.5, 0.25, 1)])
def test_is_that_of_pytorch(share: float, growth: float, backoff: float, interval: int) -> None:
    config = LossScalingConfig(
        initial_scale=1024.0,
        growth_factor=growth,
        backoff_factor=backoff,
        growth_interval=interval,
        min_scale=1e-30,
    )
    finite = _overflows(1, share, 60)
    scale, tracker = torch.tensor(1024.0), torch.tensor(0, dtype=torch.int32)
    expected = []
    for is_finite in finite:
        torch._amp_update_scale_(
            scale, tracker, torch.tensor(float(not is_finite)), growth, backoff, interval
        )
        expected.append(max(scale.item(), 1e-30))
        scale.fill_(expected[-1])
    assert _factors(config, finite)[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("hysteresis", [1, 2, 4])
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_is_that_of_a_machine_written_out(hysteresis: int, share: float) -> None:
    config = LossScalingConfig(
        initial_scale=256.0, growth_interval=4, hysteresis=hysteresis, min_scale=32.0
    )
    finite = _overflows(2, share)
    factor, good, left, expected = 256.0, 0, hysteresis, []
    for is_finite in finite:
        if is_finite:
            good += 1
            if good == 4:
                factor, good, left = factor * 2, 0, hysteresis
        else:
            good = 0
            if left > 1:
                left -= 1
            else:
                factor = max(factor / 2, 32.0)
        expected.append(factor)
    assert _factors(config, finite)[0] == expected
    assert len(set(expected)) > 3
    assert _factors(config, finite, jnp)[0] == expected


def test_hysteresis_is_that_of_deepspeed_until_the_factor_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loss_scaler.dist, "get_rank", lambda: 0)  # it logs on the first rank
    finite = _overflows(3, 0.3, 40)
    theirs = loss_scaler.DynamicLossScaler(
        init_scale=2.0**20,
        scale_window=1000,
        min_scale=2.0**12,
        delayed_shift=3,
        consecutive_hysteresis=False,
        raise_error_at_min_scale=False,
    )
    expected = []
    for is_finite in finite:
        theirs.update_scale(not is_finite)
        expected.append(theirs.cur_scale)
    config = LossScalingConfig(initial_scale=2.0**20, hysteresis=3, min_scale=2.0**12)
    assert _factors(config, finite)[0] == expected


def test_it_stays_a_finite_number() -> None:
    config = LossScalingConfig(initial_scale=2.0**126, growth_interval=1)
    factors, state = _factors(config, [True] * 5)
    assert factors == [2.0**127] * 5
    assert {state.factor.dtype, state.good_steps.dtype, state.patience.dtype} == {
        np.dtype(np.float32),
        np.dtype(np.int32),
    }
