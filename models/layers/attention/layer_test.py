"""A mixer is the papers' formula, written here in numpy, in both frameworks, there and back."""

from typing import Any

import numpy as np
import pytest

from models.layers.attention.config import AttentionConfig, check_attention
from models.layers.attention.flax_layer import Attention as FlaxAttention
from models.layers.attention.torch_layer import Attention as TorchAttention
from models.layers.attention.weights import attention
from models.layers.positions.config import PositionsConfig
from models.testing.parity import Arrays, Pass, assert_same, of_flax, of_torch, stirred

WIDTH, TOKENS = 16, 5
X = np.random.default_rng(0).normal(size=(2, TOKENS, WIDTH))
# The second example has two tokens of padding.
SEGMENT_IDS = np.array([[0] * 5, [0, 0, 0, -1, -1]], np.int32)

SOFTMAX: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "grouped causal": ({"num_kv_heads": 2, "causal": True, "qkv_bias": False}, {}),
    "multi-query window": ({"num_kv_heads": 1, "window": 1, "out_bias": False}, {}),
    "softcap scale": ({"softcap": 0.5, "softmax_scale": 0.7}, {}),
    "rms norm": ({"qk_norm": {"enabled": True, "epsilon": 0.01}}, {}),
    "layer norm": ({"qk_norm": {"enabled": True, "kind": "layer"}}, {}),
    "rotary": ({"causal": True}, {"rotary": {"enabled": True, "base": 100.0}}),
    "half turned, interpolated": (
        {},
        {"rotary": {"enabled": True, "fraction": 0.5, "interpolation": 4.0}},
    ),
    "alibi": ({"num_heads": 8}, {"alibi": {"enabled": True}}),
    "learned slopes and rotary": (
        {"causal": True, "window": 2},
        {"alibi": {"enabled": True, "learned": True}, "rotary": {"enabled": True}},
    ),
}
LINEAR: dict[str, dict[str, Any]] = {
    "elu": {},
    "relu grouped causal": {"feature_map": "relu", "num_kv_heads": 2, "causal": True},
    "fixed decay": {"causal": True, "decay": "fixed", "eps": 0.1},
    "learned decay": {
        "causal": True,
        "decay": "learned",
        "normalize": False,
        "feature_map": "identity",
        "qk_norm": {"enabled": True},
    },
}


def _configs(
    kind: str, mixer: dict[str, Any], positions: dict[str, Any]
) -> tuple[AttentionConfig, PositionsConfig]:
    config = AttentionConfig.model_validate({"kind": kind, "num_heads": 4} | mixer)
    where = PositionsConfig.model_validate(positions)
    check_attention(config, where, WIDTH, name="mixer")
    return config, where


def _both(
    config: AttentionConfig, where: PositionsConfig, weights: Arrays, context: dict[str, Any]
) -> tuple[Pass, Pass]:
    x = X.astype(weights["query.weight"].dtype)
    ours = of_flax(
        lambda: FlaxAttention(config, where, WIDTH, cache_len=TOKENS, name="a"),
        weights,
        x,
        context,
        jit=False,
    )
    other = of_torch(
        lambda: TorchAttention(config, where, WIDTH, cache_len=TOKENS, name="a"),
        weights,
        x,
        context,
    )
    return ours, other


def _linear(weights: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)


def _normed(weights: Arrays, name: str, config: AttentionConfig, x: np.ndarray) -> np.ndarray:
    if not config.qk_norm.enabled:
        return x
    if config.qk_norm.kind == "layer":
        x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + config.qk_norm.epsilon)
    return x * weights[f"{name}.weight"] + weights.get(f"{name}.bias", 0.0)


def _heads(config: AttentionConfig, weights: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries, keys and values, `[batch, num_heads, tokens, head_dim]`."""
    q, k, v = (
        _linear(weights, name, X).reshape(2, TOKENS, -1, WIDTH // config.num_heads)
        for name in ("query", "key", "value")
    )
    q, k = _normed(weights, "query_norm", config, q), _normed(weights, "key_norm", config, k)
    group = config.num_heads // k.shape[2]
    k, v = np.repeat(k, group, axis=2), np.repeat(v, group, axis=2)
    return q.swapaxes(1, 2), k.swapaxes(1, 2), v.swapaxes(1, 2)


def _turned(where: PositionsConfig, x: np.ndarray) -> np.ndarray:
    """As complex numbers, which RoFormer's rotation multiplies."""
    rotary = where.rotary
    if not rotary.enabled:
        return x
    turned = int(rotary.fraction * x.shape[-1])
    half = turned // 2
    speed = rotary.base ** (-np.arange(half) / half) / rotary.interpolation
    pairs = (x[..., :half] + 1j * x[..., half:turned]) * np.exp(
        1j * np.arange(TOKENS)[:, None] * speed
    )
    return np.concatenate((pairs.real, pairs.imag, x[..., turned:]), axis=-1)


def _seen(config: AttentionConfig) -> np.ndarray:
    """Which query sees which key, `[batch, 1, tokens, tokens]`."""
    distance = np.arange(TOKENS)[:, None] - np.arange(TOKENS)
    seen = np.ones((TOKENS, TOKENS), bool)
    if config.causal:
        seen &= distance >= 0
    if config.window is not None:
        seen &= abs(distance) <= config.window
    present = SEGMENT_IDS >= 0
    return seen & present[:, None, :, None] & present[:, None, None, :]


def _softmax_attention(
    config: AttentionConfig, where: PositionsConfig, weights: Arrays
) -> np.ndarray:
    q, k, v = _heads(config, weights)
    q, k = _turned(where, q), _turned(where, k)
    scores = q @ k.swapaxes(2, 3) * (config.softmax_scale or q.shape[-1] ** -0.5)
    if config.softcap is not None:
        scores = config.softcap * np.tanh(scores / config.softcap)
    if where.alibi.enabled:
        series = 2.0 ** (-8 / config.num_heads * np.arange(1, config.num_heads + 1))
        slopes = weights.get("alibi_slopes", series)
        scores -= slopes[:, None, None] * abs(np.arange(TOKENS)[:, None] - np.arange(TOKENS))
    seen = _seen(config)
    powers = np.where(seen, np.exp(scores), 0.0)
    total = powers.sum(axis=-1, keepdims=True)
    mixed = (powers / np.where(total == 0, 1.0, total)) @ v
    return _linear(weights, "out", mixed.swapaxes(1, 2).reshape(X.shape))


def _linear_attention(config: AttentionConfig, weights: Arrays) -> np.ndarray:
    q, k, v = _heads(config, weights)
    maps = {
        "elu": lambda x: np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))),
        "relu": lambda x: np.maximum(x, 0),
        "identity": lambda x: x,
    }
    phi = maps[config.feature_map]
    present = (SEGMENT_IDS >= 0)[:, None, :, None]
    scores = phi(q) @ (phi(k) * present).swapaxes(2, 3)
    distance = np.arange(TOKENS)[:, None] - np.arange(TOKENS)
    if config.causal:
        decay = np.array(
            {"none": [1.0] * 4, "fixed": [31 / 32, 63 / 64, 127 / 128, 255 / 256]}.get(
                config.decay, 1 / (1 + np.exp(-weights.get("decay_logits", np.zeros(4))))
            )
        )
        scores *= np.where(distance >= 0, decay[:, None, None] ** np.maximum(distance, 0), 0.0)
    total = scores.sum(axis=-1, keepdims=True) + config.eps
    mixed = scores @ v / total if config.normalize else scores @ v * q.shape[-1] ** -0.5
    return _linear(weights, "out", mixed.swapaxes(1, 2).reshape(X.shape))


@pytest.mark.parametrize("case", SOFTMAX)
def test_attention_is_its_formula(case: str) -> None:
    config, where = _configs("attention", *SOFTMAX[case])
    weights = stirred(attention(config, where, WIDTH), "float64", scale=0.3)
    ours, other = _both(config, where, weights, {"segment_ids": SEGMENT_IDS})
    assert_same(ours, other, values=1e-12, gradients=1e-10)
    expected = _softmax_attention(config, where, weights)
    np.testing.assert_allclose(ours.output, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", LINEAR)
def test_linear_attention_is_its_formula(case: str) -> None:
    config, where = _configs("linear_attention", LINEAR[case], {})
    weights = stirred(attention(config, where, WIDTH), "float64", scale=0.3)
    ours, other = _both(config, where, weights, {"segment_ids": SEGMENT_IDS})
    assert_same(ours, other, values=1e-12, gradients=1e-10)
    expected = _linear_attention(config, weights)
    np.testing.assert_allclose(ours.output, expected, rtol=0, atol=1e-10)


def test_what_is_dropped_of_an_example_does_not_depend_on_its_batch() -> None:
    config, where = _configs("attention", {"dropout_rate": 0.5}, {})
    weights = stirred(attention(config, where, WIDTH), "float32")
    seeds = np.array([3, -4], np.int32)
    ours, other = _both(config, where, weights, {"train": True, "seeds": seeds})
    assert_same(ours, other, values=1e-5, gradients=1e-4)
    alone = of_torch(
        lambda: TorchAttention(config, where, WIDTH, cache_len=TOKENS, name="a"),
        weights,
        X[1:].astype(np.float32),
        {"train": True, "seeds": seeds[1:]},
    )
    np.testing.assert_allclose(alone.output[0], other.output[1], rtol=0, atol=1e-6)
    still, _ = _both(config, where, weights, {})
    assert np.abs(still.output - ours.output).max() > 0.01


@pytest.mark.parametrize(
    ("mixer", "positions", "message"),
    [
        ({"num_heads": 5}, {}, "a width of 16 is not a multiple of mixer.num_heads 5; 4 or 8"),
        ({"num_kv_heads": 3}, {}, "num_kv_heads 3 does not divide num_heads 4; 2 or 4 would fit"),
        ({"num_heads": 16}, {"rotary": {"enabled": True}}, "fraction 1.0 of heads of 1 is 1;"),
        ({}, {"rotary": {"enabled": True, "fraction": 0.2}}, "fraction 0.2 of heads of 4 is 0.8;"),
        ({"kind": "none", "num_heads": 1, "window": 3}, {}, "window 3 has an effect with kind att"),
        ({"kind": "linear_attention", "softcap": 3.0}, {}, "softcap 3.0 has an effect with kind"),
        ({"eps": 0.5}, {}, "eps 0.5 has an effect with kind linear_attention alone"),
        (
            {"kind": "linear_attention"},
            {"rotary": {"enabled": True}},
            "positions.rotary.enabled: it turns or lowers the scores of mixer.kind attention, not",
        ),
        ({"kind": "linear_attention"}, {"alibi": {"enabled": True}}, "positions.alibi.enabled"),
        ({"kind": "linear_attention", "decay": "fixed"}, {}, "causal: true alone"),
        ({"kind": "linear_attention", "feature_map": "identity"}, {}, "choose elu or relu"),
        ({"qk_norm": {"epsilon": 0.1}}, {}, "epsilon 0.1 has an effect with qk_norm.enabled"),
        ({}, {"rotary": {"base": 5.0}}, "rotary.base 5.0 has an effect with rotary.enabled alone"),
    ],
)
def test_refuses(mixer: dict[str, Any], positions: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _configs("attention", mixer, positions)
