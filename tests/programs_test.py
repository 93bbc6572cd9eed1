"""Four ways to load a model are one function, on every network that there is.

The Flax network, the PyTorch network, the program of StableHLO and the program of torch.export
share their weights and little else: the networks are written twice and run through kernels, the
programs are made of JAX's and PyTorch's own operators and run through `registry.programs`, which
knows no network.
"""

from typing import Any

import jax
import numpy as np
import pytest
from hpc.artifact.v1 import artifact_pb2

from models.architecture import ARCHITECTURES, Model, parse_model
from models.cnn import cases as cnn_cases
from models.flax.export import export as export_flax
from models.flax.predict import predict_fn as predict_fn_of_flax
from models.mlp import cases as mlp_cases
from models.network import TensorSpec
from models.testing.parity import Record, apart, stirred
from models.torch.export import export as export_torch
from models.torch.predict import predict_fn as predict_fn_of_torch
from registry.programs.program import bind
from train.config.load import load_config
from train.publication import to_proto
from train.testing.example import PRESETS_DIR

# Each program runs a few times, so that making it fast would take longer than it does.
jax.config.update("jax_disable_most_optimizations", True)

# Of the difference between any two ways, as a part of the largest output, or of 1 where outputs are
# smaller. Float32 has 6e-8; sums are in other orders.
TOLERANCE = 1e-6

# A program that was made for one size, or that mixes examples, gives something else.
SIZES = (1, 3, 8)

SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"mlp, {name}": ("mlp", case) for name, case in mlp_cases.CASES.items()},
    **{f"cnn, {name}": ("cnn", case) for name, case in cnn_cases.CASES.items()},
}
PRESETS = sorted(path.stem for path in PRESETS_DIR.glob("*.yaml"))

Arrays = dict[str, np.ndarray]


def test_every_network_is_here() -> None:
    assert {architecture for architecture, _ in SMALL.values()} == ARCHITECTURES.keys()


@pytest.mark.parametrize("case", SMALL)
def test_four_ways_are_one(case: str, record_property: Record) -> None:
    _assert_one(parse_model(*SMALL[case]), 0.1, record_property)


@pytest.mark.parametrize("preset", PRESETS)
def test_four_ways_are_one_for_each_preset(preset: str, record_property: Record) -> None:
    _assert_one(load_config(PRESETS_DIR / f"{preset}.yaml").model, 0.02, record_property)


def _assert_one(model: Model, scale: float, record: Record) -> None:
    weights = stirred(model.network.weights(model.config), "float32", scale=scale)
    source, result = model.signature
    batch = _batch(source)
    signature = artifact_pb2.Artifact(inputs=[to_proto(source)], outputs=[to_proto(result)])
    flax = predict_fn_of_flax(model, weights)(batch)
    predict_torch = predict_fn_of_torch(model, weights)
    stablehlo = bind(export_flax(model), "stablehlo", weights, signature)
    torch_export = bind(export_torch(model), "torch_export", weights, signature)
    largest = 0.0
    for size in SIZES:
        inputs = {source.name: batch[:size]}
        ways = {
            "flax": flax[:size],
            "torch": predict_torch(batch[:size]),
            "stablehlo": stablehlo(inputs)[result.name],
            "torch_export": torch_export(inputs)[result.name],
        }
        largest = max(largest, _largest_difference(ways))
    record("apart", apart(largest, TOLERANCE))
    assert largest <= TOLERANCE


def _batch(source: TensorSpec) -> np.ndarray:
    """Returns as many examples as the largest size; of tokens, some are padded on either side."""
    rng = np.random.default_rng(2)
    shape = (max(SIZES), *source.shape)
    if np.issubdtype(np.dtype(source.dtype), np.floating):
        return rng.normal(size=shape).astype(source.dtype)
    tokens = rng.integers(0, source.limit, shape).astype(source.dtype)
    tokens[1, :2], tokens[2, -2:] = -1, -1
    return tokens


def _largest_difference(ways: Arrays) -> float:
    values = np.stack([output.astype(np.float64) for output in ways.values()])
    assert np.isfinite(values).all()
    return float(np.ptp(values, axis=0).max() / max(1.0, np.abs(values).max()))
