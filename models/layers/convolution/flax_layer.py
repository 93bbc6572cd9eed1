"""A convolution of images in Flax; `torch_layer.py` is its twin.

Shape suffixes:
  B = batch, H = height, W = width, C = channels, h = height out, w = width out, D = channels out
"""

import jax
import jax.numpy as jnp
from flax import nnx


class Convolution(nnx.Module):
    """`[batch, height, width, inputs]` to `[batch, height / stride, width / stride, outputs]`.

    Computes in the dtype of its input, to which weights are cast. Sides are divided rounding up.
    The image is padded with zeros by half a kernel, the same on all sides, which for strides above
    1 is PyTorch's way and not XLA's "SAME".

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel_size: Height and width of the kernel; odd.
        stride: Pixels from one place of the kernel to the next.
        groups: Into so many equal parts channels fall that do not see each other.
        bias: Whether one is added.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        self.stride, self.padding, self.groups = stride, kernel_size // 2, groups
        self.kernel = nnx.Param(jnp.zeros((kernel_size, kernel_size, inputs // groups, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None

    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        y_BhwD = jax.lax.conv_general_dilated(
            x_BHWC,
            self.kernel[...].astype(x_BHWC.dtype),
            window_strides=(self.stride, self.stride),
            padding=((self.padding, self.padding), (self.padding, self.padding)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
        )
        return y_BhwD if self.bias is None else y_BhwD + self.bias[...].astype(y_BhwD.dtype)
