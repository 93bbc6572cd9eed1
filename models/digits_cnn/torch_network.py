"""A small convolutional network for the digits, in PyTorch.

Shape suffixes:
  B = batch, H = height, W = width, C = channels, K = classes
"""

import torch
import torch.nn.functional as F
from torch import nn

_NUM_CHANNELS, _NUM_CLASSES = 1, 10
# Of the convolutions, 3 x 3 each; the second halves the image's sides.
_WIDTHS = (32, 64, 64)
_STRIDES = (1, 2, 1)
_CHANNELS_OF_A_GROUP = 8


class DigitsCnn(nn.Module):
    """Images `[batch, 8, 8, 1]` to logits `[batch, 10]`; 56,714 weights.

    Three convolutions, each with a group norm, which unlike a batch's knows no difference between
    training and evaluation; then the mean over the image, and a linear layer that starts at zero.
    """

    def __init__(self) -> None:
        super().__init__()
        inputs = (_NUM_CHANNELS, *_WIDTHS)
        self.convs = nn.ModuleList(
            nn.Conv2d(c_in, c_out, kernel_size=3, stride=stride, padding=1)
            for c_in, c_out, stride in zip(inputs, _WIDTHS, _STRIDES, strict=False)
        )
        self.norms = nn.ModuleList(
            nn.GroupNorm(width // _CHANNELS_OF_A_GROUP, width) for width in _WIDTHS
        )
        self.head = nn.Linear(_WIDTHS[-1], _NUM_CLASSES)
        nn.init.zeros_(self.head.weight)

    def forward(self, images_BHWC: torch.Tensor) -> torch.Tensor:
        x_BCHW = images_BHWC.permute(0, 3, 1, 2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x_BCHW = F.gelu(norm(conv(x_BCHW)))
        logits_BK: torch.Tensor = self.head(x_BCHW.mean(dim=(2, 3)))
        return logits_BK
