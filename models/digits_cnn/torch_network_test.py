"""The convolutional network starts from uniform guesses; that it learns, its benchmark shows."""

import math

import torch
import torch.nn.functional as F

from models.digits_cnn.torch_network import DigitsCnn


def test_starts_uniform() -> None:
    loss = F.cross_entropy(DigitsCnn()(torch.rand(4, 8, 8, 1)), torch.arange(4))
    assert abs(loss.item() - math.log(10)) < 0.1
