"""Canonical weights: the names, layouts and initial values that both frameworks share.

A set of weights is a plain `dict[str, np.ndarray]` with PyTorch's names and layouts (a linear layer
holds `weight [out, in]` and `bias [out]`). `models/flax/weights.py` and `models/torch/weights.py`
convert to and from it exactly, so weights trained in one framework are weights of the other.
"""

import math
from collections.abc import Mapping

import numpy as np

from base.seeds import stream
from models.config import VisionTransformerConfig

Weights = dict[str, np.ndarray]

# As large as an embedded patch, so that a token says from the start where it stands.
_POSITION_STDDEV = 0.3


class WeightsError(ValueError):
    """Weights that do not belong to the model; the message names the tensors at fault."""


def weight_shapes(config: VisionTransformerConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every weight of the model, by canonical name."""
    embed, mlp = config.embed_dim, config.mlp_dim
    shapes: dict[str, tuple[int, ...]] = {
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


def init_weights(config: VisionTransformerConfig, seed: int) -> Weights:
    """Draws initial weights, the same float32 values whichever framework then trains them.

    Matrices are Glorot uniform, position embeddings normal with a deviation of 0.3, LayerNorm the
    identity, biases zero, and the head zero so that training starts from uniform predictions.

    Args:
        config: The model.
        seed: Seed of the generator that draws them, >= 0.

    Reference: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.
    """
    rng = stream(seed, "initial weights")
    shapes = weight_shapes(config)
    return {name: _init(name, shape, rng).astype(np.float32) for name, shape in shapes.items()}


def check_weights(config: VisionTransformerConfig, weights: Mapping[str, np.ndarray]) -> None:
    """Checks that `weights` are exactly those of the model, all of one floating-point dtype.

    Raises:
        WeightsError: A tensor is missing, unexpected, or of the wrong shape or dtype.
    """
    shapes = weight_shapes(config)
    problems = [f"{name} is missing" for name in shapes if name not in weights]
    problems += [f"{name} is not a weight of this model" for name in weights if name not in shapes]
    problems += [
        f"{name} has shape {list(weights[name].shape)}, expected {list(shape)}"
        for name, shape in shapes.items()
        if name in weights and weights[name].shape != shape
    ]
    dtypes = {str(tensor.dtype) for tensor in weights.values()}
    if not problems and dtypes not in ({"float32"}, {"float64"}):
        problems.append(f"dtypes are {sorted(dtypes)}, expected all float32 or all float64")
    if problems:
        raise WeightsError("weights do not fit the model: " + "; ".join(problems))


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _layer_norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _init(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if name == "pos_embed":
        return rng.normal(0.0, _POSITION_STDDEV, shape)
    if name.startswith("head.") or name.endswith(".bias"):
        return np.zeros(shape)
    if len(shape) == 1:
        return np.ones(shape)
    limit = math.sqrt(6.0 / sum(shape))
    return rng.uniform(-limit, limit, shape)
