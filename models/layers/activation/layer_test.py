"""Every activation function is the same in both frameworks, and so is its slope."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from models.layers.activation import flax_layer, torch_layer
from models.layers.activation.names import Activation, Gate

# A few units in the last place of 5.
TOLERANCE = 4e-6

NAMES = [*get_args(Activation), *get_args(Gate)]


def test_the_tables_are_whole() -> None:
    assert list(flax_layer.ACTIVATIONS) == list(torch_layer.ACTIVATIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_values_and_slopes_agree(name: Activation | Gate) -> None:
    x = np.linspace(-5, 5, 40).astype(np.float32)
    tensor = torch.tensor(x, requires_grad=True)
    y = torch_layer.ACTIVATIONS[name](tensor)
    y.sum().backward()
    ours, pull = jax.vjp(flax_layer.ACTIVATIONS[name], jnp.asarray(x))
    np.testing.assert_allclose(ours, y.detach(), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(pull(jnp.ones_like(ours))[0], tensor.grad, rtol=0, atol=TOLERANCE)
