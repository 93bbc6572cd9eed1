"""Canonical weights: a round trip through either framework is exact, and strangers are refused."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx

from models.architecture import ARCHITECTURES, parse_model
from models.flax import weights as flax_weights
from models.initializers import zeros
from models.network import Weight
from models.torch import weights as torch_weights
from models.weights import WeightsError, check_weights, init_weights, num_weights, weight_shapes

MODEL = parse_model(
    "mlp",
    {
        "input": {"patches": {"image_size": 6, "patch_size": 3, "num_channels": 2}},
        "hidden_sizes": [12],
        "num_blocks": 2,
        "activation": "identity",
        "num_classes": 5,
        "positions": {"learned": {"enabled": True}},
        "mixer": {"kind": "attention", "num_heads": 3},
        "feed_forward": {"hidden_ratio": 3},
        "final_norm": True,
    },
)
FRAMEWORKS = {"flax": flax_weights, "torch": torch_weights}


def _random_weights(dtype: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=s).astype(dtype) for name, s in weight_shapes(MODEL).items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_round_trip_is_bitwise(framework: str, dtype: str) -> None:
    weights = _random_weights(dtype)
    with jax.enable_x64(dtype == "float64"):
        module = FRAMEWORKS[framework].from_canonical(MODEL, weights)
        returned = FRAMEWORKS[framework].to_canonical(module)
    assert returned.keys() == weights.keys()
    for name, tensor in weights.items():
        assert returned[name].dtype == tensor.dtype
        assert returned[name].tobytes() == tensor.tobytes(), name


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_model_does_not_share_memory_with_its_source(framework: str) -> None:
    weights = _random_weights("float32")
    module = FRAMEWORKS[framework].from_canonical(MODEL, weights)
    before = weights["head.weight"].copy()
    weights["head.weight"][:] = 0.0
    np.testing.assert_array_equal(FRAMEWORKS[framework].to_canonical(module)["head.weight"], before)


def test_number_of_weights_matches_the_formula() -> None:
    embed, mlp, seq_len, patch, classes, layers = 12, 36, 4, 18, 5, 2
    block = 4 * embed**2 + 4 * embed + 2 * embed * mlp + mlp + embed + 4 * embed
    expected = patch * embed + embed + seq_len * embed + layers * block
    expected += 2 * embed + classes * embed + classes
    assert num_weights(MODEL) == expected
    assert sum(tensor.size for tensor in init_weights(MODEL, 0).values()) == expected


def test_initial_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (init_weights(MODEL, seed) for seed in (1, 1, 2))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(
        first["embedding.projection.weight"], other["embedding.projection.weight"]
    )


def test_initial_scale_is_glorots() -> None:
    config = MODEL.config.model_copy(update={"hidden_sizes": (240,)})
    weight = init_weights(MODEL.model_copy(update={"config": config}), 0)[
        "blocks.0.mixer.out.weight"
    ]
    assert weight.var() == pytest.approx(2 / (240 + 240), rel=0.02)  # of 57,600 samples


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("norm.bias"), "norm.bias is missing"),
        (lambda w: w.update(extra=np.zeros(1, "f4")), "extra is not a weight of this model"),
        (
            lambda w: w.update({"head.weight": w["head.weight"].T}),
            r"head.weight has shape \[12, 5\], expected \[5, 12\]",
        ),
        (lambda w: w.update({"head.bias": np.zeros(5)}), r"\['float32', 'float64'\], expected all"),
        (lambda w: w.update({k: v.astype("f2") for k, v in w.items()}), r"\['float16'\]"),
    ],
)
def test_refuses_weights_of_another_model(change, message: str) -> None:
    weights = _random_weights("float32")
    change(weights)
    with pytest.raises(WeightsError, match=message):
        check_weights(MODEL, weights)


def test_flax_refuses_to_round_float64_in_silence() -> None:
    with pytest.raises(WeightsError, match="jax_enable_x64"):
        flax_weights.from_canonical(MODEL, _random_weights("float64"))


class _Layers(nnx.Module):
    """What lies in memory otherwise in Flax."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(2, 4, (3, 5), rngs=rngs)
        self.embed = nnx.Embed(7, 3, rngs=rngs)


def test_convolutions_and_embeddings_are_pytorchs() -> None:
    rng = np.random.default_rng(0)
    weights = {
        "conv.weight": rng.normal(size=(4, 2, 3, 5)).astype(np.float32),
        "conv.bias": rng.normal(size=4).astype(np.float32),
        "embed.weight": rng.normal(size=(7, 3)).astype(np.float32),
    }
    described = {name: Weight(tensor.shape, zeros) for name, tensor in weights.items()}
    network = replace(
        MODEL.network, weights=lambda config: described, flax=lambda config: _Layers()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, network.name, network)
        layers = flax_weights.from_canonical(MODEL, weights)
    images, tokens = rng.random((1, 8, 9, 2), dtype=np.float32), np.array([6, 0, 3])
    with torch.no_grad():
        expected = F.conv2d(
            torch.from_numpy(images).permute(0, 3, 1, 2),
            torch.from_numpy(weights["conv.weight"]),
            torch.from_numpy(weights["conv.bias"]),
            padding="same",
        ).permute(0, 2, 3, 1)
    np.testing.assert_allclose(layers.conv(images), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(layers.embed(tokens), weights["embed.weight"][tokens])
    for name, tensor in flax_weights.to_canonical(layers).items():
        assert tensor.tobytes() == weights[name].tobytes(), name
