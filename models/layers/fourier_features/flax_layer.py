"""Fourier features in Flax; `torch_layer.py` is its twin.

Reference: Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions in Low
Dimensional Domains", https://arxiv.org/abs/2006.10739.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from models.layers.fourier_features.config import FourierFeaturesConfig


class FourierFeatures(nnx.Module):
    """`[..., inputs]` to `[..., inputs + 2 num_frequencies]`: itself, its cosines and its sines.

    Angles are float32 or more, since of a large one a low precision has no digits left; what comes
    out has the input's dtype.
    """

    def __init__(self, config: FourierFeaturesConfig, inputs: int):
        kind = nnx.Param if config.learned else nnx.BatchStat
        self.frequencies = kind(jnp.zeros((config.num_frequencies, inputs)))

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        angles = 2 * jnp.pi * (wide @ self.frequencies[...].astype(wide.dtype).T)
        return jnp.concatenate([wide, jnp.cos(angles), jnp.sin(angles)], axis=-1).astype(x.dtype)
