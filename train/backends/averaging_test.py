"""The moving average is numpy's of the weights after each step, in each framework."""

from typing import Any

import numpy as np
import pytest

from models.network import Framework
from models.testing.parity import stirred
from train.backends.deepspeed_backend import DeepSpeedBackend
from train.backends.flax_backend import FlaxBackend
from train.config.ema import EmaConfig
from train.launch.process_group import join_alone
from train.recipe import batch_of, step_scalars, training_batches
from train.testing.sower.runs import NUM_STEPS, sower_config

# A few rounded float32 operations on numbers of about 1.
TOLERANCE = 1e-6


def _after_each_step(framework: Framework, **ema: Any) -> list[dict[str, np.ndarray]]:
    """Returns the weights before the first step, and after each, that would be published."""
    config = sower_config(ema=ema)
    join_alone()
    backend = FlaxBackend(config, 1) if framework == "flax" else DeepSpeedBackend(config)
    backend.start(stirred(config.model.network.weights(config.model.config), "float32"))
    loader = training_batches(config, config.data.load().train)
    scalars, found = step_scalars(config, NUM_STEPS), [dict(backend.weights())]
    for step in range(NUM_STEPS):
        backend.step(batch_of(config, loader, step, backend.share), scalars(step))
        found.append(dict(backend.weights()))
    return found


@pytest.mark.parametrize("framework", ["flax", "torch"])
@pytest.mark.parametrize("warmup", [True, False])
def test_is_the_average_of_numpy(framework: Framework, warmup: bool) -> None:
    weights = _after_each_step(framework)
    found = _after_each_step(framework, decay=0.3, warmup=warmup)
    for name, first in weights[0].items():
        expected = first.astype(np.float64)
        for step in range(NUM_STEPS):
            decay = min(0.3, (1 + step) / (10 + step)) if warmup else 0.3
            expected = decay * expected + (1 - decay) * weights[step + 1][name]
            np.testing.assert_allclose(
                found[step + 1][name], expected, rtol=0, atol=TOLERANCE, err_msg=name
            )
    # A running statistic, which networks tell anew in each step, is averaged too.
    assert np.abs(found[-1]["block.mean"] - weights[-1]["block.mean"]).max() > 100 * TOLERANCE


def test_the_warm_up_is_that_of_tensorflow() -> None:
    warm, plain = EmaConfig(decay=0.999), EmaConfig(decay=0.999, warmup=False)
    assert warm.rate(0) == pytest.approx(0.9)
    assert warm.rate(90) == pytest.approx(1 - 91 / 100)
    assert warm.rate(1_000_000) == plain.rate(0) == pytest.approx(0.001)
    assert EmaConfig().rate(5) == 0.0
