"""Small configurations of the network, each with something else switched on, for tests."""

from typing import Any

VECTOR = {"input": {"vector": {"shape": [3, 2]}}, "hidden_sizes": [8, 4], "num_classes": 3}
PATCHES = {
    "input": {"patches": {"image_size": 4, "patch_size": 2, "num_channels": 1}},
    "hidden_sizes": [8],
    "num_blocks": 1,
    "activation": "identity",
    "num_classes": 3,
    "mixer": {"kind": "attention", "num_heads": 2},
}
TOKENS = {
    "input": {"tokens": {"vocab_size": 7, "seq_len": 6, "stddev": 0.5}},
    "hidden_sizes": [8],
    "num_blocks": 1,
    "activation": "identity",
    "mixer": {"kind": "attention", "num_heads": 2, "causal": True},
    "head": {"kind": "next_token"},
}
LINEAR = TOKENS | {"mixer": {"kind": "linear_attention", "num_heads": 2, "causal": True}}
POOLED = TOKENS | {"num_classes": 3, "head": {}}
DROPS: dict[str, Any] = {
    "dropout_rate": 0.1,
    "embedding_dropout_rate": 0.2,
    "block": {"dropout_rate": 0.1, "stochastic_depth": {"rate": 0.5}},
}


def _with(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Returns a configuration with other values, section by section."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _with(merged[key], **value) if both else value
    return merged


def _experts(blocks: int = 1, **keys: Any) -> dict[str, Any]:
    return _with(TOKENS, num_blocks=blocks, mixture_of_experts={"num_experts": 4} | keys)


CASES: dict[str, dict[str, Any]] = {
    "plain": VECTOR,
    "plain, dropped": VECTOR | {"dropout_rate": 0.3, "head": {"dropout_rate": 0.2}},
    "plain, one layer": VECTOR | {"hidden_sizes": [5], "activation": "silu"},
    "regression": _with(
        VECTOR, num_classes=None, head={"kind": "regression", "num_targets": 2, "bias": False}
    ),
    "residual": VECTOR | {"num_blocks": [1, 2], "activation": "tanh", "final_norm": True},
    "norm after": VECTOR | {"num_blocks": 1, "block": {"norm_placement": "after"}},
    "rms norm": VECTOR | {"num_blocks": 1, "norm": {"kind": "rms", "epsilon": 1e-3}},
    "layer scale": VECTOR | {"num_blocks": 1, "block": {"layer_scale": 0.1}},
    "residual, dropped": VECTOR | {"num_blocks": 2} | DROPS,
    "constant depth": _with(
        VECTOR, num_blocks=2, block={"stochastic_depth": {"rate": 0.5, "ramp": "constant"}}
    ),
    "gated": VECTOR | {"num_blocks": 1, "feed_forward": {"kind": "gated", "activation": "silu"}},
    "squared relu": _with(
        VECTOR,
        num_blocks=1,
        feed_forward={
            "activation": "squared_relu",
            "bias": False,
            "hidden_ratio": 1.5,
            "hidden_multiple_of": 8,
            "dropout_rate": 0.5,
        },
    ),
    "Fourier features, fixed": {
        **VECTOR,
        "input": {
            "vector": {"shape": [3, 2], "fourier_features": {"enabled": True, "num_frequencies": 3}}
        },
    },
    "Fourier features, learned": {
        **VECTOR,
        "input": {
            "vector": {
                "shape": [3, 2],
                "fourier_features": {"enabled": True, "scale": 0.5, "learned": True},
            }
        },
    },
    "experts of vectors": VECTOR | {"num_blocks": 1, "mixture_of_experts": {"num_experts": 2}},
    "patches": PATCHES | {"positions": {"learned": {"enabled": True}}, "final_norm": True},
    "patches, class token": _with(
        PATCHES, head={"pooling": "class_token"}, positions={"learned": {"enabled": True}}
    ),
    "patches, two stages": PATCHES | {"hidden_sizes": [4, 8], "num_blocks": [1, 1]} | DROPS,
    "patches, last": _with(PATCHES, head={"pooling": "last", "logit_softcap": 2.0}),
    "patches, window": _with(PATCHES, mixer={"window": 1, "softcap": 1.0, "softmax_scale": 0.5}),
    "patches, linear": _with(PATCHES, mixer={"kind": "linear_attention", "feature_map": "relu"}),
    "tokens": TOKENS,
    "tokens without mixer": _with(TOKENS, mixer={"kind": "none", "num_heads": 1, "causal": False}),
    "tokens, dropped": _with(TOKENS, mixer={"dropout_rate": 0.3}) | DROPS,
    "tokens, mean": POOLED,
    "tokens, class token": _with(POOLED, mixer={"causal": False}, head={"pooling": "class_token"}),
    "tokens, last": _with(POOLED, head={"pooling": "last"}),
    "learned positions": _with(TOKENS, positions={"learned": {"enabled": True, "stddev": 0.5}}),
    "rotary": _with(TOKENS, positions={"rotary": {"enabled": True, "base": 100.0}}),
    "rotary, interpolated": _with(
        TOKENS,
        positions={"rotary": {"enabled": True, "fraction": 0.5, "interpolation": 2.0}},
    ),
    "alibi": _with(TOKENS, positions={"alibi": {"enabled": True}}),
    "alibi and rotary, learned": _with(
        TOKENS, positions={"alibi": {"enabled": True, "learned": True}, "rotary": {"enabled": True}}
    ),
    "multi-query": _with(
        TOKENS, mixer={"num_kv_heads": 1, "qkv_bias": False, "out_bias": False, "window": 2}
    ),
    "normed queries": _with(TOKENS, mixer={"qk_norm": {"enabled": True, "epsilon": 1e-3}}),
    "layer-normed queries": _with(TOKENS, mixer={"qk_norm": {"enabled": True, "kind": "layer"}}),
    "tied": _with(TOKENS, head={"tied": True, "bias": False, "logit_softcap": 3.0}),
    "tied, with bias": _with(TOKENS, head={"tied": True}, final_norm=True),
    "linear": LINEAR,
    "linear, decay": _with(LINEAR, mixer={"decay": "fixed", "eps": 1e-3, "num_kv_heads": 1}),
    "linear, retention": _with(
        LINEAR, mixer={"decay": "learned", "normalize": False, "feature_map": "identity"}
    ),
    "experts": _experts(),
    "experts, Switch": _experts(
        top_k=1,
        capacity_factor=0.5,
        load_balance_weight=0.1,
        router_z_weight=0.1,
        every=2,
        blocks=2,
    ),
    "experts, shared and noisy": _experts(
        num_shared_experts=1, router_jitter=0.1, router_noise=0.5, gate="sigmoid"
    ),
    "experts, normalized and gated": _with(
        _experts(normalize_gates=True), feed_forward={"kind": "gated", "dropout_rate": 0.2}
    ),
    "experts that choose": _with(
        POOLED,
        mixer={"causal": False},
        mixture_of_experts={
            "num_experts": 2,
            "routing": "expert_choice",
            "capacity_factor": 1.0,
        },
    ),
}
