"""The two networks are one function, for every key of the configuration, in training and out of it.

Each framework is the other's oracle: they share configuration, weights and kernels, and no line of
the mathematics. Intermediate values are compared block by block, so that a failure says where the
difference begins.
"""

import functools

import numpy as np
import pytest

from models.cnn.cases import CASES
from models.cnn.config import CnnConfig
from models.cnn.network import CNN
from models.testing.parity import Pass, Record, assert_same, of_flax, of_torch, stirred

# Relative to the largest, of logits (and what is sown), and of gradients.
TOLERANCES = {"float32": (1e-5, 1e-4), "float64": (1e-12, 1e-10)}

# What does otherwise in evaluation.
EVALUATED = ("batch", "switchable", "dropout", "stochastic depth", "reversible, with all")
IN_FLOAT64 = ("batch", "reversible")


def config_of(case: str) -> CnnConfig:
    """Returns the configuration of a case."""
    return CnnConfig.model_validate(CASES[case])


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
