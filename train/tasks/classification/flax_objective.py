"""Cross-entropy in JAX; `torch_objective.py` is its twin."""

import jax
import jax.numpy as jnp
import optax

from optim.jax.curvature import sample_labels
from train.tasks.task import Objective


def objective(*, label_smoothing: float) -> Objective:
    """Returns the loss of logits `[batch, num_classes]`, and `accuracy`, for labels.

    Labels are classes `[batch]`, or the share of each class `[batch, num_classes]`, of which the
    largest is the right one.
    """

    def loss(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        is_mixed = labels.ndim == 2
        shares = labels if is_mixed else jax.nn.one_hot(labels, logits.shape[-1])
        targets = optax.smooth_labels(shares, label_smoothing)
        right = labels.argmax(axis=-1) if is_mixed else labels
        accuracy = jnp.mean(logits.argmax(axis=-1) == right)
        return optax.softmax_cross_entropy(logits, targets).mean(), {"accuracy": accuracy}

    def sampled_loss(logits: jax.Array, labels: jax.Array, noise: jax.Array) -> jax.Array:
        sampled = sample_labels(logits, noise)
        return optax.softmax_cross_entropy_with_integer_labels(logits, sampled).mean()

    return Objective(loss, sampled_loss)
