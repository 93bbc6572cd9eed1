"""Trained weights to a prediction function, in PyTorch."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from models.config import VisionTransformerConfig
from models.torch.weights import from_canonical


def predict_fn(
    config: VisionTransformerConfig, weights: Mapping[str, np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """Builds a function from images to logits.

    Args:
        config: The model.
        weights: Its canonical float32 weights.

    Returns:
        A thread-safe function from `[batch, height, width, channels]` float32 to
        `[batch, num_classes]` float32.

    Raises:
        WeightsError: The weights do not belong to this model.
    """
    model = from_canonical(config, weights).eval()

    @torch.inference_mode()
    def predict(images: np.ndarray) -> np.ndarray:
        # A copy: requests arrive as read-only memory, which torch would warn about sharing.
        return model(torch.tensor(images, dtype=torch.float32)).numpy()

    return predict
