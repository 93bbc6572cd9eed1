"""Held-out metrics, measured through the very function that will serve the model."""

from collections.abc import Callable

import numpy as np

from data.digits import Split

_BATCH_SIZE = 256


def evaluate(predict: Callable[[np.ndarray], np.ndarray], split: Split) -> dict[str, float]:
    """Classifies every image of `split`.

    Args:
        predict: Images `[batch, height, width, channels]` to logits `[batch, num_classes]`.
        split: What to classify.

    Returns:
        `accuracy`, the share classified correctly, and `loss_nats`, the mean cross-entropy.
    """
    chunks = [
        predict(split.images[start : start + _BATCH_SIZE])
        for start in range(0, len(split), _BATCH_SIZE)
    ]
    logits = np.concatenate(chunks).astype(np.float64)
    target_logits = np.take_along_axis(logits, split.labels[:, np.newaxis], axis=1)[:, 0]
    losses = np.logaddexp.reduce(logits, axis=1) - target_logits
    return {
        "accuracy": float(np.mean(logits.argmax(axis=1) == split.labels)),
        "loss_nats": float(np.mean(losses)),
    }
