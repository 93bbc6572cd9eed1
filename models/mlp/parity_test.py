"""The two networks are one function, whatever is switched on: values, gradients, what is sown.

Each framework is the other's oracle: they share the configuration, the weights and the kernels, and
no line of the network. Intermediate values are compared first, block by block.
"""

import functools

import jax
import numpy as np
import pytest

from models.mlp.cases import CASES
from models.mlp.config import MlpConfig
from models.mlp.flax_network import Mlp as FlaxMlp
from models.mlp.torch_network import Mlp as TorchMlp
from models.mlp.weights import weights
from models.testing.parity import Pass, Record, assert_same, of_flax, of_torch, stirred

# Each program runs once, so that making it fast would take longer than it does.
jax.config.update("jax_disable_most_optimizations", True)

# Of values and of gradients, relative to the largest.
TOLERANCES = {"float32": (1e-5, 1e-4), "float64": (1e-12, 1e-10)}

BATCH = 3
SEEDS = np.array([5, -6, 7], np.int32)

# One of each kernel, and of each way to route.
IN_FLOAT64 = [
    "residual, dropped",
    "patches, class token",
    "alibi and rotary, learned",
    "linear, retention",
    "tokens, last",
    "experts, shared and noisy",
]


def inputs_of(config: MlpConfig, dtype: str) -> np.ndarray:
    """Returns a batch; of tokens, with examples that are padded on the left and on the right."""
    rng = np.random.default_rng(2)
    if config.input.tokens is None:
        return rng.normal(size=(BATCH, *config.input.spec.shape)).astype(dtype)
    tokens = rng.integers(0, config.input.num_features, (BATCH, config.input.seq_len), np.int32)
    tokens[0, :2], tokens[1, -2:] = -1, -1
    return tokens


@functools.cache
def _run(case: str, dtype: str, train: bool) -> tuple[Pass, Pass]:
    """Runs a case there and back in Flax and in PyTorch."""
    config = MlpConfig.model_validate(CASES[case])
    drawn, x = stirred(weights(config), dtype), inputs_of(config, dtype)
    context = {"train": train, "seeds": SEEDS, "keep_values": True}
    ours = of_flax(lambda: FlaxMlp(config), drawn, x, context)
    return ours, of_torch(lambda: TorchMlp(config), drawn, x, context)


@pytest.mark.parametrize(
    ("case", "dtype"),
    [*((case, "float32") for case in CASES), *((case, "float64") for case in IN_FLOAT64)],
)
def test_both_frameworks_agree_in_training(case: str, dtype: str, record_property: Record) -> None:
    ours, other = _run(case, dtype, train=True)
    values, gradients = TOLERANCES[dtype]
    assert ours.output.dtype == dtype
    assert_same(ours, other, values=values, gradients=gradients, record=record_property)


@pytest.mark.parametrize("case", ["plain, dropped", "tokens, dropped"])
def test_both_frameworks_agree_in_evaluation(case: str, record_property: Record) -> None:
    ours, other = _run(case, "float32", train=False)
    values, gradients = TOLERANCES["float32"]
    assert_same(ours, other, values=values, gradients=gradients, record=record_property)
    trained, _ = _run(case, "float32", train=True)
    assert np.abs(trained.output - ours.output).max() > 0.01  # something was dropped
