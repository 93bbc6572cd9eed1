"""A convolution is numpy's sum over shifted images, at every stride and odd size, in both."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from models.layers.convolution.flax_layer import Convolution as FlaxConvolution
from models.layers.convolution.torch_layer import Convolution as TorchConvolution
from models.layers.convolution.weights import convolution
from models.testing.parity import (
    Arrays,
    assert_same,
    of_flax,
    of_torch,
    stirred,
    without_context,
)

INPUTS, OUTPUTS = 4, 6


def _in_numpy(x: np.ndarray, weights: Arrays, *, stride: int, groups: int) -> np.ndarray:
    """Adds up, for each place in the kernel, what it sees of the image, group by group."""
    weight = weights["weight"]
    size = weight.shape[-1]
    batch, height, width, channels = x.shape
    rows, columns = -(-height // stride), -(-width // stride)
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    y = np.zeros((batch, rows, columns, OUTPUTS))
    ins, outs = channels // groups, OUTPUTS // groups
    for row in range(size):
        for column in range(size):
            seen = padded[:, row::stride, column::stride][:, :rows, :columns]
            for group in range(groups):
                inner = seen[..., group * ins : (group + 1) * ins]
                kernel = weight[group * outs : (group + 1) * outs, :, row, column]
                y[..., group * outs : (group + 1) * outs] += inner @ kernel.T
    return y + weights.get("bias", 0.0)


@pytest.mark.parametrize(
    ("kernel_size", "stride", "groups", "bias", "sides"),
    [
        (3, 1, 1, True, (5, 4)),
        (3, 2, 1, False, (5, 5)),
        (3, 2, 2, True, (4, 6)),
        (1, 2, 1, True, (5, 4)),
        (5, 3, 1, True, (7, 2)),
        (7, 4, 2, False, (3, 9)),
    ],
)
def test_is_numpys(
    kernel_size: int, stride: int, groups: int, bias: bool, sides: tuple[int, int]
) -> None:
    weights = stirred(
        convolution(INPUTS, OUTPUTS, kernel_size, groups=groups, bias=bias), "float64"
    )
    x = np.random.default_rng(0).normal(size=(2, *sides, INPUTS))
    args = (INPUTS, OUTPUTS, kernel_size)
    options = {"stride": stride, "groups": groups, "bias": bias}
    ours = of_flax(
        lambda: FlaxConvolution(*args, **options), weights, x, jit=False, call=without_context
    )
    other = of_torch(lambda: TorchConvolution(*args, **options), weights, x, call=without_context)
    expected = _in_numpy(x, weights, stride=stride, groups=groups)
    np.testing.assert_allclose(ours.output, expected, rtol=0, atol=1e-12)
    assert_same(ours, other, values=1e-12, gradients=1e-12)


def test_computes_in_the_dtype_of_its_input() -> None:
    x = np.ones((1, 3, 3, INPUTS), np.float32)
    flax, torch_side = FlaxConvolution(INPUTS, OUTPUTS, 3), TorchConvolution(INPUTS, OUTPUTS, 3)
    assert flax(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16
    assert torch_side(torch.tensor(x).bfloat16()).dtype == torch.bfloat16
    assert flax.kernel[...].dtype == jnp.float32 and torch_side.weight.dtype == torch.float32


def test_torch_moves_no_pixels() -> None:
    """What comes out is laid out as the next layer wants it."""
    y = TorchConvolution(INPUTS, OUTPUTS, 3, stride=2)(torch.ones(2, 8, 8, INPUTS))
    assert y.is_contiguous()
