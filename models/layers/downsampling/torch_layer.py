"""Anti-aliased downsampling in PyTorch; `flax_layer.py` is its twin.

Shape suffixes:
  B = batch, H = height, W = width, C = channels, h = height out, w = width out, F = filter_size
"""

import torch
import torch.nn.functional as F

from models.layers.downsampling.filters import binomial


def blur_pool(x_BHWC: torch.Tensor, filter_size: int, stride: int) -> torch.Tensor:
    """Blurs images, and of `stride` pixels, either way, keeps one.

    Args:
        x_BHWC: `[batch, height, width, channels]`, of sides of at least `filters.min_side`: beyond
            its borders an image continues by its reflection.
        filter_size: Height and width of the binomial filter, at least 2.
        stride: Sides are divided by it, rounding up.
    """
    before, after, channels = (filter_size - 1) // 2, filter_size // 2, x_BHWC.shape[-1]
    padded_BCHW = F.pad(x_BHWC.permute(0, 3, 1, 2), (before, after, before, after), mode="reflect")
    weights_F = x_BHWC.new_tensor(binomial(filter_size))
    kernel_C1FF = torch.outer(weights_F, weights_F).expand(channels, 1, -1, -1)
    y_BChw = F.conv2d(padded_BCHW, kernel_C1FF, stride=stride, groups=channels)
    return y_BChw.permute(0, 2, 3, 1)
