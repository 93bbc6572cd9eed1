"""Anti-aliased downsampling is scipy's filter at every stride, in both frameworks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import ndimage

from models.layers.downsampling import flax_layer, torch_layer
from models.layers.downsampling.filters import min_side

# Rows of Pascal's triangle.
FILTERS = {
    2: [1, 1],
    3: [1, 2, 1],
    4: [1, 3, 3, 1],
    5: [1, 4, 6, 4, 1],
    7: [1, 6, 15, 20, 15, 6, 1],
}


@pytest.mark.parametrize(
    ("filter_size", "stride", "height", "width"),
    [(2, 2, 8, 5), (3, 1, 7, 4), (3, 2, 8, 5), (4, 3, 7, 4), (7, 2, 7, 4)],
)
def test_is_scipys(filter_size: int, stride: int, height: int, width: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, height, width, 3))
    weights = np.array(FILTERS[filter_size]) / np.sum(FILTERS[filter_size])
    expected = x
    for axis in (1, 2):
        # An even filter lies half a pixel to one side: to the right here, to the left by default.
        origin = -1 if filter_size % 2 == 0 else 0
        expected = ndimage.correlate1d(expected, weights, axis, mode="mirror", origin=origin)
    expected = expected[:, ::stride, ::stride]
    tensor = torch.tensor(x, requires_grad=True)
    y = torch_layer.blur_pool(tensor, filter_size, stride)
    cotangent = np.random.default_rng(1).normal(size=expected.shape)
    y.backward(torch.tensor(cotangent))
    with jax.enable_x64(True):
        ours, pull = jax.vjp(lambda x: flax_layer.blur_pool(x, filter_size, stride), jnp.asarray(x))
        (gradient,) = pull(jnp.asarray(cotangent))
    np.testing.assert_allclose(y.detach(), expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(gradient, tensor.grad, rtol=0, atol=1e-13)


@pytest.mark.parametrize("filter_size", [2, 3, 4, 5, 6, 7])
def test_the_least_side_is_enough_and_least(filter_size: int) -> None:
    side = min_side(filter_size)
    flat = torch.ones(1, side, side, 1)
    torch.testing.assert_close(torch_layer.blur_pool(flat, filter_size, 1), flat)
    np.testing.assert_allclose(flax_layer.blur_pool(jnp.asarray(flat), filter_size, 1), flat)
    with pytest.raises(RuntimeError, match=r"[Pp]adding size"):
        torch_layer.blur_pool(flat[:, 1:], filter_size, 1)


def test_a_checkerboard_does_not_alias() -> None:
    """The finest pattern has no place at half the resolution; leaving out pixels would keep it."""
    board = (np.indices((16, 16)).sum(axis=0) % 2).astype(np.float32)[None, :, :, None]
    blurred = torch_layer.blur_pool(torch.tensor(board), 3, 2)[:, 1:-1, 1:-1]
    torch.testing.assert_close(blurred, torch.full_like(blurred, 0.5))
