"""The two networks are one function, for every key of the configuration, in training and out of it.

Each framework is the other's oracle: they share configuration, weights and kernels, and no line of
the mathematics. Intermediate values are compared block by block, so that a failure says where the
difference begins.
"""

import functools
from typing import Any

import numpy as np
import pytest

from models.cnn.config import CnnConfig
from models.cnn.network import CNN
from models.testing.parity import Pass, Record, assert_same, of_flax, of_torch, stirred

# Relative to the largest, of logits (and what is sown), and of gradients.
TOLERANCES = {"float32": (1e-5, 1e-4), "float64": (1e-12, 1e-10)}

# All are of one shape where they can be: what JAX has compiled for one it has for the next.
SMALL: dict[str, Any] = {
    "image": {"height": 6, "width": 5, "num_channels": 2},
    "num_classes": 3,
    "stem": {"width": 4},
    "widths": [4, 8],
    "depths": [1, 2],
    "strides": [1, 2],
    "norm": {"kind": "layer"},
}
_ATTENTION = {"kind": "attention", "num_heads": 2}
_LINEAR = {"kind": "linear_attention", "num_heads": 2}
_EXPERTS = {"num_experts": 2, "top_k": 1}

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch": {"norm": {"kind": "batch"}},
    "batch, momentum": {"norm": {"kind": "batch", "momentum": 0.5, "epsilon": 1e-2}},
    "group": {"norm": {"kind": "group", "num_groups": 2}},
    "instance": {"norm": {"kind": "instance"}},
    "switchable": {"norm": {"kind": "switchable", "num_groups": 2}},
    "none": {"norm": {"kind": "none"}},
    "square, colour": {"image": {"height": 5, "width": 5, "num_channels": 3}, "num_classes": 4},
    "large kernels": {"stem": {"width": 4, "kernel_size": 5}, "block": {"kernel_size": 5}},
    "stem strides": {"stem": {"width": 4, "stride": 2}},
    "stem pools": {"stem": {"width": 4, "pool": "max"}},
    "one stage": {"widths": [4], "depths": [2], "strides": [1]},
    "three stages": {"widths": [4, 8, 4], "depths": [1, 1, 1], "strides": [1, 2, 3]},
    "bottleneck": {"block": {"kind": "bottleneck", "expansion": 2}},
    "groups": {"block": {"groups": 2}},
    "bottleneck, groups": {"block": {"kind": "bottleneck", "expansion": 2, "groups": 2}},
    "gelu": {"block": {"activation": "gelu"}},
    "silu": {"block": {"activation": "silu"}},
    "dropout": {"block": {"dropout_rate": 0.3}},
    "stochastic depth": {"block": {"stochastic_depth_rate": 0.5}},
    "layer scale": {"block": {"layer_scale": 0.1}},
    "zero init": {"block": {"zero_init": True}},
    "squeeze-excitation": {"squeeze_excitation": {"enabled": True, "ratio": 0.5}},
    "squeeze-excitation, hard": {
        "squeeze_excitation": {"enabled": True, "gate": "hard_sigmoid", "activation": "silu"}
    },
    "blur": {"blur_filter_size": 3},
    "blur, even, bottleneck": {
        "blur_filter_size": 2,
        "block": {"kind": "bottleneck", "expansion": 2},
    },
    "blur, pool": {"blur_filter_size": 3, "stem": {"width": 4, "pool": "max"}},
    "Fourier of values": {"fourier_values": {"enabled": True, "num_frequencies": 3}},
    "Fourier of coordinates": {
        "fourier_coordinates": {"enabled": True, "num_frequencies": 3, "scale": 2.0}
    },
    "Fourier, learned": {
        "fourier_values": {"enabled": True, "num_frequencies": 2, "learned": True},
        "fourier_coordinates": {"enabled": True, "num_frequencies": 2, "learned": True},
    },
    "attention": {"attention_stages": [1], "attention": _ATTENTION},
    "attention, options": {
        "attention_stages": [1],
        "attention": _ATTENTION
        | {"num_kv_heads": 1, "softcap": 5.0, "dropout_rate": 0.2, "qk_norm": {"enabled": True}},
    },
    "linear attention": {"attention_stages": [1], "attention": _LINEAR},
    "experts": {
        "expert_stages": [1],
        "mixture_of_experts": _EXPERTS | {"every": 2, "router_z_weight": 0.01},
        "feed_forward": {"kind": "gated", "hidden_ratio": 1.0},
    },
    "reversible": {"reversible_stages": [1], "depths": [1, 3]},
    "reversible, with all": {
        "reversible_stages": [0],
        "widths": [4],
        "depths": [2],
        "strides": [1],
        "norm": {"kind": "batch"},
        "block": {"dropout_rate": 0.2, "stochastic_depth_rate": 0.2, "layer_scale": 0.5},
        "attention_stages": [0],
        "attention": _LINEAR,
        "expert_stages": [0],
        "mixture_of_experts": _EXPERTS | {"every": 2, "load_balance_weight": 0.1},
    },
    "checkpointed": {"checkpointed_stages": [1]},
    "max pooling": {"head": {"pooling": "max"}},
    "head dropout": {"head": {"dropout_rate": 0.3}},
}
# What does otherwise in evaluation.
EVALUATED = ("batch", "switchable", "dropout", "stochastic depth", "reversible, with all")
IN_FLOAT64 = ("batch", "reversible")


def config_of(case: str) -> CnnConfig:
    """Returns the configuration of a case."""
    return CnnConfig.model_validate(SMALL | CASES[case])


@functools.cache
def _both(case: str, dtype: str, train: bool) -> tuple[Pass, Pass]:
    config = config_of(case)
    weights = stirred(CNN.weights(config), dtype)
    images = np.random.default_rng(2).random((3, *config.image_shape)).astype(dtype)
    context = {
        "train": train,
        "seeds": np.array([3, 4, 5], np.int32),
        "checkpointing": "full" if config.checkpointed_stages else "none",
        "keep_values": True,
    }
    return (
        of_flax(lambda: CNN.flax(config), weights, images, context, jit=False),
        of_torch(lambda: CNN.torch(config), weights, images, context),
    )


@pytest.mark.parametrize("case", CASES)
def test_training_is_the_same(case: str, record_property: Record) -> None:
    ours, other = _both(case, "float32", True)
    values, gradients = TOLERANCES["float32"]
    assert_same(ours, other, values=values, gradients=gradients, record=record_property)
    assert ours.output.dtype == other.output.dtype == np.float32


@pytest.mark.parametrize("case", EVALUATED)
def test_evaluation_is_the_same(case: str, record_property: Record) -> None:
    ours, other = _both(case, "float32", False)
    values, gradients = TOLERANCES["float32"]
    assert_same(ours, other, values=values, gradients=gradients, record=record_property)


@pytest.mark.parametrize("case", IN_FLOAT64)
def test_in_float64_hardly_anything_differs(case: str, record_property: Record) -> None:
    ours, other = _both(case, "float64", True)
    values, gradients = TOLERANCES["float64"]
    assert_same(ours, other, values=values, gradients=gradients, record=record_property)


def test_what_is_sown_is_named_by_block_and_weight() -> None:
    ours, _ = _both("reversible, with all", "float32", True)
    config = config_of("reversible, with all")
    constants = {name for name, weight in CNN.weights(config).items() if not weight.trainable}
    kinds = {
        kind: {name.removeprefix(f"{kind}.") for name in ours.sown if name.startswith(kind)}
        for kind in ("statistics", "values")
    }
    assert kinds["statistics"] == constants
    for block in config.blocks:
        assert f"{block.name}.conv" in kinds["values"]
