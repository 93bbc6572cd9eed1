"""The activation functions in JAX; `torch_layer.py` is its twin.

Reference: Hendrycks and Gimpel, "Gaussian Error Linear Units", https://arxiv.org/abs/1606.08415;
So et al., "Primer", https://arxiv.org/abs/2109.08668, of the squared ReLU.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from models.layers.activation.names import Activation, Gate

ACTIVATIONS: dict[Activation | Gate, Callable[[jax.Array], jax.Array]] = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "squared_relu": lambda x: jnp.square(jax.nn.relu(x)),
    "tanh": jnp.tanh,
    "identity": lambda x: x,
    "sigmoid": jax.nn.sigmoid,
    "hard_sigmoid": jax.nn.hard_sigmoid,
}
