"""How well a classifier does."""

import numpy as np

from train.tasks.task import Measured


def measure(logits: np.ndarray, labels: np.ndarray) -> Measured:
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
    correct = logits.argmax(axis=1) == labels
    return Measured(
        {"accuracy": float(correct.sum()), "loss_nats": float(losses.sum())}, len(labels)
    )
