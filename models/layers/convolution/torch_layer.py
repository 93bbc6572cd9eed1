"""A convolution of images in PyTorch; `flax_layer.py` is its twin.

Images are `[batch, height, width, channels]` as in JAX. To PyTorch's convolution that is, with axes
renamed and nothing moved, its layout `channels_last`, on a CPU up to twice as fast as the other.

Shape suffixes:
  B = batch, H = height, W = width, C = channels, h = height out, w = width out, D = channels out
"""

import torch
import torch.nn.functional as F
from torch import nn


class Convolution(nn.Module):
    """`[batch, height, width, inputs]` to `[batch, height / stride, width / stride, outputs]`.

    Computes in the dtype of its input, to which weights are cast. Sides are divided rounding up.
    The image is padded with zeros by half a kernel, the same on all sides.

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
        super().__init__()
        self.stride, self.padding, self.groups = stride, kernel_size // 2, groups
        self.weight = nn.Parameter(torch.zeros(outputs, inputs // groups, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        y_BDhw = F.conv2d(
            x_BHWC.permute(0, 3, 1, 2),
            self.weight.to(x_BHWC.dtype),
            None if self.bias is None else self.bias.to(x_BHWC.dtype),
            stride=self.stride,
            padding=self.padding,
            groups=self.groups,
        )
        return y_BDhw.permute(0, 2, 3, 1)
