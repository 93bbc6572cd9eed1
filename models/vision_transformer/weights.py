"""The weights of a vision transformer: their names, shapes and first values."""

import math

import numpy as np

from models.network import Shape
from models.vision_transformer.config import VisionTransformerConfig

# As large as an embedded patch, so that a token says from the start where it stands.
_POSITION_STDDEV = 0.3


def weight_shapes(config: VisionTransformerConfig) -> dict[str, Shape]:
    """Returns the shape of every weight, by canonical name."""
    embed, mlp = config.embed_dim, config.mlp_dim
    shapes: dict[str, Shape] = {
        **_linear("patch_embed", config.patch_dim, embed),
        "pos_embed": (config.seq_len, embed),
    }
    for layer in range(config.num_layers):
        block = f"blocks.{layer}"
        shapes |= _layer_norm(f"{block}.norm1", embed)
        shapes |= _linear(f"{block}.attn.qkv", embed, 3 * embed)
        shapes |= _linear(f"{block}.attn.proj", embed, embed)
        shapes |= _layer_norm(f"{block}.norm2", embed)
        shapes |= _linear(f"{block}.mlp.fc1", embed, mlp)
        shapes |= _linear(f"{block}.mlp.fc2", mlp, embed)
    return {**shapes, **_layer_norm("norm", embed), **_linear("head", embed, config.num_classes)}


def init_weight(name: str, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Draws the first values of one weight, float64.

    Matrices are Glorot uniform, position embeddings normal with a deviation of 0.3, LayerNorm the
    identity, biases zero, and the head zero so that training starts from uniform predictions.

    Reference: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.
    """
    if name == "pos_embed":
        return rng.normal(0.0, _POSITION_STDDEV, shape)
    if name.startswith("head.") or name.endswith(".bias"):
        return np.zeros(shape)
    if len(shape) == 1:
        return np.ones(shape)
    limit = math.sqrt(6.0 / sum(shape))
    return rng.uniform(-limit, limit, shape)


def _linear(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _layer_norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
