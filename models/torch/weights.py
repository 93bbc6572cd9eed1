"""Canonical weights to and from the PyTorch model."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from models.architecture import Model
from models.weights import Weights, check_weights


def to_canonical(module: nn.Module) -> Weights:
    """Copies the weights out of a module, bit for bit."""
    return {
        name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()
    }


def from_canonical(model: Model, weights: Mapping[str, np.ndarray]) -> nn.Module:
    """Builds the module of a model with a copy of `weights`, bit for bit.

    Raises:
        WeightsError: The weights do not belong to this model.
    """
    check_weights(model, weights)
    with torch.device("meta"):  # no memory and no random numbers for values about to be replaced
        module = model.network.torch(model.config)
    state = {name: torch.tensor(tensor) for name, tensor in weights.items()}
    module.load_state_dict(state, assign=True)
    return module
