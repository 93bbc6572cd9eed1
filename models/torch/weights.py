"""Canonical weights to and from the PyTorch model."""

from collections.abc import Mapping

import numpy as np
import torch

from models.config import VisionTransformerConfig
from models.torch.vit import VisionTransformer
from models.weights import Weights, check_weights


def to_canonical(model: VisionTransformer) -> Weights:
    """Copies the model's weights out, bit for bit."""
    return {
        name: tensor.detach().cpu().numpy().copy() for name, tensor in model.state_dict().items()
    }


def from_canonical(
    config: VisionTransformerConfig, weights: Mapping[str, np.ndarray]
) -> VisionTransformer:
    """Builds the model with a copy of `weights`, bit for bit.

    Raises:
        WeightsError: The weights do not belong to this model.
    """
    check_weights(config, weights)
    with torch.device("meta"):  # no memory and no random numbers for values about to be replaced
        model = VisionTransformer(config)
    state = {name: torch.tensor(tensor) for name, tensor in weights.items()}
    model.load_state_dict(state, assign=True)
    return model
