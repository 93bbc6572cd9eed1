"""The weights of a mixer of tokens."""

import math

import numpy as np
from numpy.typing import NDArray

from models.initializers import exactly, uniform
from models.layers.attention.config import AttentionConfig
from models.layers.linear.weights import linear
from models.layers.norm.weights import norm
from models.layers.positions.alibi import geometric_slopes
from models.layers.positions.config import PositionsConfig
from models.network import Weight, prefixed


def attention(config: AttentionConfig, positions: PositionsConfig, width: int) -> dict[str, Weight]:
    """Returns `query`, `key`, `value` and `out`, each a linear layer, and what options add.

    Each projection is one of its own, whose outputs are cut by heads, so that heads can be shared
    among devices. The first three are Glorot uniform as if they were one layer, as PyTorch's are.
    """
    head_dim = width // config.num_heads
    kv_width = head_dim * config.kv_heads
    bias, init = config.qkv_bias, uniform(math.sqrt(6.0 / (width + width + 2 * kv_width)))
    weights = {
        **prefixed("query", linear(width, width, bias=bias, init=init)),
        **prefixed("key", linear(width, kv_width, bias=bias, init=init)),
        **prefixed("value", linear(width, kv_width, bias=bias, init=init)),
        **prefixed("out", linear(width, width, bias=config.out_bias)),
    }
    if config.qk_norm.enabled:
        weights |= prefixed("query_norm", norm(config.qk_norm, head_dim))
        weights |= prefixed("key_norm", norm(config.qk_norm, head_dim))
    heads = (config.num_heads,)
    if positions.alibi.learned:
        slopes = geometric_slopes(config.num_heads)
        weights["alibi_slopes"] = Weight(heads, exactly(slopes))
    if config.decay == "learned":
        decays = retention_decays(config.num_heads)
        weights["decay_logits"] = Weight(heads, exactly(np.log(decays / (1 - decays))))
    return weights


def retention_decays(num_heads: int) -> NDArray[np.float64]:
    """Returns by what each head's past fades from token to token: 1 - 2^-5, 1 - 2^-6, ...

    Beyond 16 heads the series starts again, for the numbers would round to 1.

    Reference: Sun et al., "Retentive Network", https://arxiv.org/abs/2307.08621.
    """
    exponents = -5.0 - np.arange(num_heads, dtype=np.float64) % 16
    return 1 - np.exp2(exponents)
