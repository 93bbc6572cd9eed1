"""A linear layer is numpy's, in both frameworks, and computes in the dtype of its input."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from models.flax.weights import load_weights
from models.layers.linear.flax_layer import Linear as FlaxLinear
from models.layers.linear.torch_layer import Linear as TorchLinear
from models.layers.linear.weights import linear
from models.testing.parity import stirred


@pytest.mark.parametrize("bias", [True, False])
def test_is_numpys(bias: bool) -> None:
    weights = stirred(linear(5, 3, bias=bias), "float32")
    x = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    expected = x @ weights["weight"].T + weights.get("bias", 0.0)
    flax = load_weights(lambda: FlaxLinear(5, 3, bias=bias), weights)
    torch_side = TorchLinear(5, 3, bias=bias)
    torch_side.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    np.testing.assert_allclose(flax(jnp.asarray(x)), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        torch_side(torch.tensor(x)).detach().numpy(), expected, rtol=0, atol=1e-6
    )


def test_computes_in_the_dtype_of_its_input() -> None:
    x = np.ones((1, 5), np.float32)
    flax, torch_side = FlaxLinear(5, 3), TorchLinear(5, 3)
    assert flax(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16
    assert torch_side(torch.tensor(x).bfloat16()).dtype == torch.bfloat16
    assert flax.kernel[...].dtype == jnp.float32 and torch_side.weight.dtype == torch.float32
