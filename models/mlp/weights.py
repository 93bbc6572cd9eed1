"""The weights of a residual stack: their names, shapes and first values."""

from itertools import pairwise

from models.initializers import constant, normal, zeros
from models.layers.attention.weights import attention
from models.layers.embedding.weights import embedding
from models.layers.feed_forward.weights import feed_forward
from models.layers.head.weights import head
from models.layers.linear.weights import linear
from models.layers.mixture_of_experts.weights import mixture_of_experts
from models.layers.norm.weights import norm
from models.layers.positions.weights import learned_positions
from models.mlp.config import MlpConfig
from models.network import Weight, prefixed

_CLASS_TOKEN_STDDEV = 0.02

# What a branch ends with: attention, feed-forwards and experts.
_LAST_MATRICES = ("out.weight", "fc2.weight")


def weights(config: MlpConfig) -> dict[str, Weight]:
    """Returns every weight, by canonical name; `projections.0` leads from stage 0 to stage 1.

    Matrices are Glorot uniform, tokens, positions and the class token normal, norms the identity,
    biases zero, and the head zero so that training starts from uniform predictions.
    """
    first, last = config.hidden_sizes[0], config.hidden_sizes[-1]
    found = prefixed("embedding", embedding(config.input, first))
    if config.head.pooling == "class_token":
        found["class_token"] = Weight((first,), normal(_CLASS_TOKEN_STDDEV))
    learned = config.positions.learned
    if learned.enabled:
        table = learned_positions(learned, config.input.seq_len, first)
        found |= prefixed("positions", table)
    for stage, (inputs, outputs) in enumerate(pairwise(config.hidden_sizes)):
        found |= prefixed(f"projections.{stage}", linear(inputs, outputs))
    for index, width in enumerate(config.block_widths):
        found |= prefixed(f"blocks.{index}", _block(config, index, width))
    if config.final_norm:
        found |= prefixed("norm", norm(config.norm, last))
    return found | prefixed("head", head(config.head, last, config.num_outputs))


def _block(config: MlpConfig, index: int, width: int) -> dict[str, Weight]:
    branches: dict[str, dict[str, Weight]] = {}
    if config.mixer.kind != "none":
        branches["mixer"] = attention(config.mixer, config.positions, width)
    experts = config.mixture_of_experts
    if experts is not None and config.has_experts(index):
        branches["feed_forward"] = mixture_of_experts(experts, config.feed_forward, width)
    else:
        branches["feed_forward"] = feed_forward(config.feed_forward, width)
    found: dict[str, Weight] = {}
    for name, layer in branches.items():
        if config.block.zero_init:
            last = [key for key in layer if key.endswith(_LAST_MATRICES)]
            layer |= {key: layer[key]._replace(init=zeros) for key in last}
        found |= prefixed(f"{name}_norm", norm(config.norm, width)) | prefixed(name, layer)
        if config.block.layer_scale is not None:
            found[f"{name}_scale"] = Weight((width,), constant(config.block.layer_scale))
    return found
