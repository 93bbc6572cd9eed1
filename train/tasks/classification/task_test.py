"""The loss of mixed labels is the cross-entropy of their shares, in both frameworks."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from train.tasks.classification.task import CLASSIFICATION, CrossEntropy

_RNG = np.random.default_rng(0)
_LOGITS = _RNG.normal(0, 2, (6, 4)).astype(np.float32)
_SHARES = _RNG.dirichlet(np.ones(4), 6).astype(np.float32)

TOLERANCE = 1e-5


def _both(labels: np.ndarray, smoothing: float) -> list[tuple[float, float]]:
    section = CrossEntropy(label_smoothing=smoothing)
    results = (
        CLASSIFICATION.flax(section).loss(jnp.asarray(_LOGITS), jnp.asarray(labels)),
        CLASSIFICATION.torch(section).loss(torch.tensor(_LOGITS), torch.tensor(labels)),
    )
    return [(float(loss), float(metrics["accuracy"])) for loss, metrics in results]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixed_labels(smoothing: float) -> None:
    logits = _LOGITS.astype(np.float64)
    log_shares = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    targets = (1 - smoothing) * _SHARES + smoothing / 4
    expected = -(targets * log_shares).sum(axis=1).mean()
    right = np.mean(logits.argmax(axis=1) == _SHARES.argmax(axis=1))
    for loss, accuracy in _both(_SHARES, smoothing):
        assert loss == pytest.approx(expected, rel=TOLERANCE)
        assert accuracy == pytest.approx(right)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_one_class_is_a_share_of_one(smoothing: float) -> None:
    labels = np.array([0, 3, 1, 2, 2, 1], np.int32)
    as_shares = np.eye(4, dtype=np.float32)[labels]
    for classes, shares in zip(_both(labels, smoothing), _both(as_shares, smoothing), strict=True):
        assert classes == pytest.approx(shares, rel=TOLERANCE)
