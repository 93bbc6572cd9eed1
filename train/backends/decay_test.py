"""Matrices decay, and biases and norms do not, those of stacked experts neither, in each framework.

A step with weight decay is held to one without: they are the rate, the decay and the weight apart.
"""

import jax
import numpy as np
import pytest

from models.network import Framework
from models.testing.parity import stirred
from train.backends.deepspeed_backend import DeepSpeedBackend
from train.backends.flax_backend import FlaxBackend
from train.config.schema import TrainConfig
from train.launch.process_group import join_alone
from train.recipe import batch_of, step_scalars, training_batches

jax.config.update("jax_disable_most_optimizations", True)

RATE, DECAY = 0.01, 0.5

# Of weights of about 1, in float32.
TOLERANCE = 1e-6

_DECAYING = {
    "embedding.projection.weight",
    "blocks.0.feed_forward.router.weight",
    "blocks.0.feed_forward.experts.fc1.weight",
    "blocks.0.feed_forward.experts.fc2.weight",
    "head.weight",
}
_OTHERS = {
    "embedding.projection.bias",
    "blocks.0.feed_forward_norm.weight",
    "blocks.0.feed_forward_norm.bias",
    "blocks.0.feed_forward.experts.fc1.bias",
    "blocks.0.feed_forward.experts.fc2.bias",
    "blocks.0.feed_forward_scale",
    "head.bias",
}


def _config(weight_decay: float) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "artifact": {"name": "decay", "version": "1.0.0"},
            "run": {"seed": 0, "num_steps": 1},
            "model": {
                "architecture": "mlp",
                "config": {
                    "input": {"vector": {"shape": [4]}},
                    "hidden_sizes": [4],
                    "num_blocks": 1,
                    "num_classes": 3,
                    "block": {"layer_scale": 0.5},
                    "mixture_of_experts": {"num_experts": 2},
                },
            },
            "data": {
                "source": "mixture",
                "options": {"num_features": 4, "num_classes": 3, "num_train": 8, "num_test": 4},
                "global_batch_size": 4,
            },
            "task": "classification",
            "optimizer": {
                "name": "adamw",
                "adamw": {"learning_rate": RATE, "weight_decay": weight_decay},
            },
            "torch": {"num_threads": 1},
        }
    )


def _after_a_step(framework: Framework, weight_decay: float) -> dict[str, np.ndarray]:
    config = _config(weight_decay)
    join_alone()
    backend = FlaxBackend(config, 1) if framework == "flax" else DeepSpeedBackend(config)
    backend.start(_weights(config))
    batch = batch_of(config, training_batches(config, config.data.load().train), 0, backend.share)
    scalars = step_scalars(config, 1)(0)
    assert float(scalars.learning_rate) == pytest.approx(RATE)
    backend.step(batch, scalars)
    return backend.weights()


def _weights(config: TrainConfig) -> dict[str, np.ndarray]:
    return stirred(config.model.network.weights(config.model.config), "float32", scale=1.0)


@pytest.mark.parametrize("framework", ["flax", "torch"])
def test_what_decays(framework: Framework) -> None:
    before = _weights(_config(DECAY))
    assert before.keys() == _DECAYING | _OTHERS
    plain, decayed = (_after_a_step(framework, decay) for decay in (0.0, DECAY))
    for name, weight in before.items():
        expected = RATE * DECAY * weight if name in _DECAYING else np.zeros_like(weight)
        np.testing.assert_allclose(
            plain[name] - decayed[name], expected, rtol=0, atol=TOLERANCE, err_msg=name
        )
