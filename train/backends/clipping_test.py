"""Gradients are clipped by `max_grad_norm` and by `max_grad_value`, as numpy clips them.

Of both, the norm comes first, in each framework and under each stage of ZeRO.

In its first step Adam moves a weight by `rate * g / (|g| + eps)`, from which the gradient follows.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest

from models.network import Framework
from models.testing.parity import stirred
from train.backends.deepspeed_backend import DeepSpeedBackend
from train.backends.flax_backend import FlaxBackend
from train.config.schema import TrainConfig
from train.launch.process_group import join_alone
from train.recipe import batch_of, step_scalars, training_batches
from train.testing.sower.runs import sower_config

RATE, EPS = 0.5, 0.1

# Of float32 weights of about 1, in units of `eps / rate`.
TOLERANCE = 1e-6


def _config(stage: int, **optimizer: Any) -> TrainConfig:
    adamw = {"learning_rate": RATE, "epsilon": EPS, "weight_decay": 0.0}
    return sower_config(
        optimizer={"adamw": adamw, **optimizer},
        schedule={"kind": "warmup_cosine"},
        zero={"stage": stage},
    )


@cache
def _moves(framework: Framework, stage: int, **optimizer: Any) -> np.ndarray:
    """Returns how far one step moves each weight."""
    config = _config(stage, **optimizer)
    join_alone()
    backend = FlaxBackend(config, 1) if framework == "flax" else DeepSpeedBackend(config)
    weights = config.model.network.weights(config.model.config)
    before = stirred(weights, "float32")
    backend.start(before)
    batch = batch_of(config, training_batches(config, config.data.load().train), 0, backend.share)
    scalars = step_scalars(config, 1)(0)
    assert float(scalars.learning_rate) == pytest.approx(RATE)
    backend.step(batch, scalars)
    after = backend.weights()
    moves = [before[name] - after[name] for name, weight in weights.items() if weight.trainable]
    return np.concatenate([move.ravel().astype(np.float64) for move in moves])


_BACKENDS: list[tuple[Framework, int]] = [
    ("flax", 0),
    *(("torch", stage) for stage in range(4)),
]


@pytest.mark.parametrize("by_value", [True, False])
@pytest.mark.parametrize("by_norm", [True, False])
@pytest.mark.parametrize(("framework", "stage"), _BACKENDS)
def test_is_what_numpy_clips(
    framework: Framework, stage: int, by_norm: bool, by_value: bool
) -> None:
    plain = _moves(framework, stage)
    gradient = EPS * plain / (RATE - np.abs(plain))
    limits, expected = {}, gradient
    if by_norm:
        limits["max_grad_norm"] = float(np.linalg.norm(gradient)) / 2
        expected = gradient / 2
    if by_value:
        limit = limits["max_grad_value"] = float(np.quantile(np.abs(expected), 0.8))
        expected = expected.clip(-limit, limit)
    found = _moves(framework, stage, **limits)
    moved = RATE * expected / (np.abs(expected) + EPS)
    np.testing.assert_allclose(found, moved, rtol=0, atol=TOLERANCE)
    assert (np.abs(found - plain).max() > 1000 * TOLERANCE) == (by_norm or by_value)
