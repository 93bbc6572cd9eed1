"""Trained weights to a prediction function, in PyTorch."""

from collections.abc import Mapping

import numpy as np
import torch

from models.architecture import Model
from models.network import Predict
from models.torch.weights import from_canonical


def predict_fn(model: Model, weights: Mapping[str, np.ndarray]) -> Predict:
    """Builds a function from inputs to outputs.

    Args:
        model: Which.
        weights: Its canonical float32 weights.

    Returns:
        A thread-safe function of a batch; shapes and dtypes are those of `model.signature`, with
        the batch in front.

    Raises:
        WeightsError: The weights do not belong to this model.
    """
    module = from_canonical(model, weights).eval()
    dtype = getattr(torch, model.signature.input.dtype)

    @torch.inference_mode()
    def predict(inputs: np.ndarray) -> np.ndarray:
        # A copy: requests arrive as read-only memory, which torch would warn about sharing.
        return module(torch.tensor(inputs, dtype=dtype)).numpy()

    return predict
