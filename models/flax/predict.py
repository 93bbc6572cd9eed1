"""Trained weights to a prediction function, in Flax."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from models.config import VisionTransformerConfig
from models.flax.weights import from_canonical


def predict_fn(
    config: VisionTransformerConfig, weights: Mapping[str, np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """Builds a compiled function from images to logits.

    Batches are padded to the next power of two, so that a server compiles for a handful of sizes
    and not for each one that arrives.

    Args:
        config: The model.
        weights: Its canonical float32 weights.

    Returns:
        A thread-safe function from `[batch, height, width, channels]` float32 to
        `[batch, num_classes]` float32.

    Raises:
        WeightsError: The weights do not belong to this model.
    """
    graph, params = nnx.split(from_canonical(config, weights))

    @jax.jit
    def logits_of(params: nnx.State[Any, Any], images: jax.Array) -> jax.Array:
        return nnx.merge(graph, params)(images)

    def predict(images: np.ndarray) -> np.ndarray:
        batch = len(images)
        padded = np.zeros((_next_power_of_two(batch), *images.shape[1:]), np.float32)
        padded[:batch] = images
        return np.asarray(logits_of(params, padded))[:batch]

    return predict


def _next_power_of_two(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()
