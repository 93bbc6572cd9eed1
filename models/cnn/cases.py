"""Small configurations of the network, each with something else switched on, for tests."""

from typing import Any

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

_CHANGES: dict[str, dict[str, Any]] = {
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

CASES = {name: SMALL | changes for name, changes in _CHANGES.items()}
