"""Numbers in gradients are limited to `max_grad_value`, in each framework, as numpy limits them.

In its first step Adam moves a weight by `rate * g / (|g| + eps)`, from which the gradient follows.
"""

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


def _config(**optimizer: Any) -> TrainConfig:
    adamw = {"learning_rate": RATE, "epsilon": EPS, "weight_decay": 0.0}
    return sower_config(optimizer={"adamw": adamw, **optimizer}, schedule={"kind": "warmup_cosine"})


def _moves(framework: Framework, **optimizer: Any) -> np.ndarray:
    """Returns how far one step moves each weight."""
    config = _config(**optimizer)
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


@pytest.mark.parametrize("framework", ["flax", "torch"])
def test_values_are_limited(framework: Framework) -> None:
    plain = _moves(framework)
    gradient = EPS * plain / (RATE - np.abs(plain))
    limit = float(np.quantile(np.abs(gradient), 0.8))
    limited = gradient.clip(-limit, limit)
    expected = RATE * limited / (np.abs(limited) + EPS)
    found = _moves(framework, max_grad_value=limit)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    assert np.abs(found - plain).max() > 1000 * TOLERANCE
