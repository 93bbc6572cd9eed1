"""A run that was ended on the way and goes on publishes, to the bit, what one whole run does."""

from pathlib import Path
from typing import Any

import jax
import pytest

from optim.sophia import Sophia
from train.config.schema import TrainConfig
from train.testing.sower.resumed_runs import Pair, flax_pair, torch_pairs
from train.testing.sower.runs import sower_config

# Takes effect until JAX starts.
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_disable_most_optimizations", True)

_NOISY: dict[str, Any] = {
    "model": {"dropout_rate": 0.3, "stochastic_depth_rate": 0.2},
    "data": {"gradient_accumulation_steps": 2},
    "regularization": {"dropout": {"shape": "linear", "final": 0.2}},
}
# The first steps overflow whatever the batch; later on some do.
_FLOAT16: dict[str, Any] = {
    "precision": {
        "dtype": "float16",
        "loss_scaling": {"initial_scale": 2.0**24, "growth_interval": 2, "hysteresis": 2},
    },
}
_COMPRESSED: dict[str, Any] = {
    "gradient_compression": {"enabled": True, "min_size": 16, "rounding": "stochastic"}
}
_AVERAGED: dict[str, Any] = {"ema": {"decay": 0.7}}
_SOPHIA: dict[str, Any] = {
    "optimizer": {
        "name": "sophia",
        "sophia": Sophia(learning_rate=0.01, curvature_every=2, state_bits=8),
    },
}

# Steps are skipped, the rate falls, and the best model is published, all by what went before.
_TURNED: dict[str, Any] = {
    "run": {"num_steps": 12},
    "optimizer": {"adamw": {"learning_rate": 0.1}},
    "evaluation": {"every_steps": 1},
    "checkpoint": {"keep_best": 2},
    "callbacks": {
        "watch": {"on_spike": "skip", "window_steps": 2, "spike_deviations": 0.3},
        "early_stopping": {"patience": 7, "metric": "loss_nats"},
        "reduce_on_plateau": {"patience": 2, "metric": "loss_nats"},
    },
}
# The run is rolled back, again and again, to checkpoints of before and after it was ended.
_ROLLED_BACK: dict[str, Any] = {
    "run": {"num_steps": 12},
    "optimizer": {"adamw": {"learning_rate": 0.1}},
    "checkpoint": {"every_steps": 1},
    "callbacks": {
        "watch": {
            "on_spike": "roll_back",
            "window_steps": 2,
            "spike_deviations": 0.3,
            "max_incidents": 100,
        },
    },
}

_FLAX = {
    "noisy, averaged": {**_NOISY, **_AVERAGED},
    "float16, compressed, averaged": {**_NOISY, **_FLOAT16, **_COMPRESSED, **_AVERAGED},
    "curvature": {**_NOISY, **_SOPHIA},
    "turned": _TURNED,
    "rolled back": _ROLLED_BACK,
}

_TORCH = {
    "stage 0, noisy, averaged": {**_NOISY, **_AVERAGED, "zero": {"stage": 0}},
    "stage 0, compressed": {**_COMPRESSED, "zero": {"stage": 0}},
    "stage 1, float16": {**_NOISY, **_FLOAT16, "zero": {"stage": 1}},
    "stage 1, compressed": {**_COMPRESSED, "zero": {"stage": 1}},
    "stage 2, curvature, offloaded": {
        **_NOISY,
        **_SOPHIA,
        "zero": {"stage": 2, "offload_optimizer": {"device": "cpu"}},
    },
    "stage 2, float16, compressed, averaged": {
        **_FLOAT16,
        **_COMPRESSED,
        **_AVERAGED,
        "zero": {"stage": 2},
    },
    "stage 3, noisy, averaged": {**_NOISY, **_AVERAGED, "zero": {"stage": 3}},
    "stage 1, turned": {**_TURNED, "zero": {"stage": 1}},
    "stage 3, rolled back": {**_ROLLED_BACK, "zero": {"stage": 3}},
    "stage 3, float16, compressed": {**_FLOAT16, **_COMPRESSED, "zero": {"stage": 3}},
}


def _config(sections: dict[str, Any]) -> TrainConfig:
    return sower_config(**sections)


def _assert_same(name: str, pair: Pair) -> None:
    assert (len(pair.whole["rollbacks"]) > 1) == ("rolled back" in name)
    if "turned" in name:
        skipped = {metrics["skipped"] for _, metrics, _ in pair.whole["reports"].values()}
        assert skipped == {0.0, 1.0}
    assert pair.resumed["rollbacks"] == pair.whole["rollbacks"]
    assert pair.resumed["reports"] == pair.whole["reports"]
    assert pair.resumed["weights"] == pair.whole["weights"]


@pytest.mark.parametrize("name", _FLAX)
def test_flax(name: str, tmp_path: Path) -> None:
    _assert_same(name, flax_pair(_config(_FLAX[name]), tmp_path, world_size=2))


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    configs = [_config(sections) for sections in _TORCH.values()]
    pairs = torch_pairs(configs, tmp_path_factory.mktemp("torch"))
    return dict(zip(_TORCH, pairs, strict=True))


@pytest.mark.parametrize("name", _TORCH)
def test_torch(name: str, torch: dict[str, Pair]) -> None:
    _assert_same(name, torch[name])
