"""Vectors, patches and tokens become the same in both frameworks, and what others make of them."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.flax.weights import load_weights
from models.layers.embedding.config import InputConfig
from models.layers.embedding.flax_layer import Embedding as FlaxEmbedding
from models.layers.embedding.torch_layer import Embedding as TorchEmbedding
from models.layers.embedding.weights import embedding
from models.testing.parity import stirred

WIDTH = 3
VECTOR = {"vector": {"shape": [2, 3]}}
PATCHES = {"patches": {"image_size": 6, "patch_size": 2, "num_channels": 3}}
TOKENS = {"tokens": {"vocab_size": 5, "seq_len": 4, "stddev": 1.0}}
_RNG = np.random.default_rng(0)


def _both(config: dict[str, Any], x: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Embeds in both frameworks, which agree; returns the result and the weights."""
    section = InputConfig.model_validate(config)
    weights = stirred(embedding(section, WIDTH), "float32")
    flax = load_weights(lambda: FlaxEmbedding(section, WIDTH), weights)
    torch_side = TorchEmbedding(section, WIDTH)
    torch_side.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    ours = flax(jnp.asarray(x), jnp.dtype("float32"))
    other = torch_side(torch.tensor(x), torch.float32).detach().numpy()
    np.testing.assert_allclose(ours, other, rtol=0, atol=1e-6)
    assert flax(jnp.asarray(x), jnp.dtype("bfloat16")).dtype == jnp.bfloat16
    assert torch_side(torch.tensor(x), torch.bfloat16).dtype == torch.bfloat16
    return other, weights


def test_a_vector_is_flattened() -> None:
    x = _RNG.normal(size=(4, 2, 3)).astype(np.float32)
    ours, weights = _both(VECTOR, x)
    expected = x.reshape(4, 1, 6) @ weights["projection.weight"].T + weights["projection.bias"]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


def test_patches_are_those_of_a_convolution() -> None:
    x = _RNG.normal(size=(2, 6, 6, 3)).astype(np.float32)
    ours, weights = _both(PATCHES, x)
    kernel = torch.tensor(weights["projection.weight"].reshape(WIDTH, 2, 2, 3)).permute(0, 3, 1, 2)
    maps = F.conv2d(
        torch.tensor(x).permute(0, 3, 1, 2),
        kernel,
        torch.tensor(weights["projection.bias"]),
        stride=2,
    )
    np.testing.assert_allclose(ours, maps.flatten(2).mT, rtol=0, atol=1e-5)


def test_tokens_are_looked_up_and_a_batch_may_be_shorter() -> None:
    x = np.array([[4, 0, -1], [1, 1, 2]], np.int32)
    ours, weights = _both(TOKENS, x)
    np.testing.assert_array_equal(ours, weights["weight"][np.maximum(x, 0)])


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (VECTOR, (4, 3, 2), r"expected features \[batch, 2, 3\], got shape \[4, 3, 2\]"),
        (PATCHES, (4, 8, 8, 3), r"expected image \[batch, 6, 6, 3\], got shape \[4, 8, 8, 3\]"),
        (TOKENS, (4, 5), r"expected tokens \[batch, 4 or fewer\], got shape \[4, 5\]"),
        (TOKENS, (4,), r"got shape \[4\]"),
    ],
)
def test_refuses_other_shapes(config: dict[str, Any], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InputConfig.model_validate(config).check_shape(shape)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "expected one of vector, patches, tokens, got none"),
        (VECTOR | TOKENS, "expected one of vector, patches, tokens, got vector and tokens"),
        (
            {"patches": {"image_size": 8, "patch_size": 3, "num_channels": 1}},
            "image_size 8 is not a multiple of patch_size 3",
        ),
        ({"vector": {"shape": []}}, "at least 1 item"),
    ],
)
def test_refuses(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InputConfig.model_validate(config)
