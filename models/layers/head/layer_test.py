"""A head answers as its formula does, in both frameworks, from an example's own tokens alone."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from models.context import Context
from models.flax.weights import load_weights
from models.layers.head.config import HeadConfig
from models.layers.head.flax_layer import Head as FlaxHead
from models.layers.head.torch_layer import Head as TorchHead
from models.layers.head.weights import head
from models.testing.parity import assert_same, of_flax, of_torch, stirred

WIDTH, OUTPUTS = 4, 3
X = np.random.default_rng(0).normal(size=(3, 5, WIDTH))
SEGMENT_IDS = np.array([[0] * 5, [0, 0, -1, -1, -1], [-1, -1, 0, 0, 0]], np.int32)
_PRESENT = SEGMENT_IDS >= 0

CASES: list[tuple[dict[str, Any], bool, np.ndarray]] = [
    ({}, False, X.mean(axis=1)),
    ({}, True, np.stack([x[here].mean(axis=0) for x, here in zip(X, _PRESENT, strict=True)])),
    ({"pooling": "last"}, False, X[:, 4]),
    ({"pooling": "last", "logit_softcap": 2.0}, True, X[[0, 1, 2], [4, 1, 4]]),
    ({"pooling": "class_token", "bias": False}, True, X[[0, 1, 2], [0, 0, 2]]),
    ({"kind": "next_token"}, True, X),
    ({"kind": "regression", "num_targets": OUTPUTS}, False, X.mean(axis=1)),
]


@pytest.mark.parametrize(("keys", "padded", "pooled"), CASES)
def test_is_its_formula(keys: dict[str, Any], padded: bool, pooled: np.ndarray) -> None:
    config = HeadConfig.model_validate(keys)
    weights = stirred(head(config, WIDTH, OUTPUTS), "float64")
    context = {"segment_ids": SEGMENT_IDS} if padded else {}
    ours = of_flax(
        lambda: FlaxHead(config, WIDTH, OUTPUTS, name="head"), weights, X, context, jit=False
    )
    other = of_torch(lambda: TorchHead(config, WIDTH, OUTPUTS, name="head"), weights, X, context)
    assert_same(ours, other, values=1e-12, gradients=1e-10)
    expected = pooled @ weights["weight"].T + weights.get("bias", 0.0)
    if config.logit_softcap is not None:
        expected = config.logit_softcap * np.tanh(expected / config.logit_softcap)
    np.testing.assert_allclose(ours.output, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padded", [False, True])
def test_a_mean_of_many_float16_tokens_is_finite(padded: bool) -> None:
    config, tokens = HeadConfig(bias=False), 2048
    x = np.full((1, tokens, WIDTH), 100, np.float16)  # which add up to more than float16 holds
    weights = {"weight": np.ones((OUTPUTS, WIDTH), np.float32)}
    context = {"segment_ids": np.zeros((1, tokens), np.int32)} if padded else {}
    for side in (
        of_flax(lambda: FlaxHead(config, WIDTH, OUTPUTS, name="a"), weights, x, context, jit=False),
        of_torch(lambda: TorchHead(config, WIDTH, OUTPUTS, name="a"), weights, x, context),
    ):
        np.testing.assert_array_equal(side.output, np.full((1, OUTPUTS), 100 * WIDTH))


def test_low_precision_gives_float32_and_a_tied_head_uses_the_embedding() -> None:
    config = HeadConfig(kind="next_token", tied=True, bias=False)
    assert head(config, WIDTH, OUTPUTS) == {}
    table = np.random.default_rng(1).normal(size=(OUTPUTS, WIDTH)).astype(np.float32)
    flax = load_weights(lambda: FlaxHead(config, WIDTH, OUTPUTS, name="head"), {})
    ours = flax(jnp.asarray(X, jnp.bfloat16), Context(), jnp.asarray(table))
    other = TorchHead(config, WIDTH, OUTPUTS, name="head")(
        torch.tensor(X).bfloat16(), Context(), torch.tensor(table)
    )
    assert ours.dtype == jnp.float32 and other.dtype == torch.float32
    for logits in (ours, other):
        np.testing.assert_allclose(logits, X @ table.T, rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "regression"}, "num_targets is missing, which kind regression needs"),
        ({"num_targets": 3}, "num_targets 3 has an effect with kind regression alone"),
        ({"tied": True}, "tied True has an effect with kind next_token alone"),
        ({"kind": "next_token", "pooling": "last"}, "pooling 'last' has an effect with kind cl"),
        (
            {"kind": "regression", "num_targets": 1, "logit_softcap": 1.0},
            "logit_softcap 1.0 has an effect with kind classification or next_token alone",
        ),
    ],
)
def test_refuses(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HeadConfig.model_validate(keys)
