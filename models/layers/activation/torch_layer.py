"""The activation functions in PyTorch; `flax_layer.py` is its twin."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from models.layers.activation.names import Activation, Gate

ACTIVATIONS: dict[Activation | Gate, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": partial(F.gelu, approximate="none"),
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "squared_relu": lambda x: F.relu(x).square(),
    "tanh": torch.tanh,
    "identity": lambda x: x,
    "sigmoid": torch.sigmoid,
    # F.hardsigmoid multiplies the slope of a float64 by a sixth of float32.
    "hard_sigmoid": lambda x: F.relu6(x + 3) / 6,
}
