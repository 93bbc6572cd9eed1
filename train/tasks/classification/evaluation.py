"""How well a classifier does."""

import numpy as np


def evaluate(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Measures predictions.

    Args:
        logits: `[num_examples, num_classes]` float32.
        labels: `[num_examples]` integers.

    Returns:
        `accuracy`, the share classified correctly, and `loss_nats`, the mean cross-entropy.
    """
    logits = logits.astype(np.float64)
    target_logits = np.take_along_axis(logits, labels[:, np.newaxis], axis=1)[:, 0]
    losses = np.logaddexp.reduce(logits, axis=1) - target_logits
    return {
        "accuracy": float(np.mean(logits.argmax(axis=1) == labels)),
        "loss_nats": float(np.mean(losses)),
    }
