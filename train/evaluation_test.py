"""Metrics agree with scikit-learn's, whatever the number of images is."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from data.dataset import Split
from train.evaluation import evaluate
from train.tasks.classification.task import CLASSIFICATION

# Both in float64; sklearn normalises probabilities first.
TOLERANCE = 1e-9


def _linear(images: np.ndarray) -> np.ndarray:
    weights = np.random.default_rng(1).normal(size=(64, 10)).astype(np.float32)
    return images.reshape(len(images), -1) @ weights


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600])
def test_matches_sklearn(size: int) -> None:
    rng = np.random.default_rng(0)
    split = Split(
        inputs=rng.random((size, 8, 8, 1), dtype=np.float32),
        targets=rng.integers(0, 10, size).astype(np.int32),
    )
    logits = _linear(split.inputs).astype(np.float64)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)

    metrics = evaluate(CLASSIFICATION, _linear, split)
    assert metrics["accuracy"] == accuracy_score(split.targets, logits.argmax(axis=1))
    expected = log_loss(split.targets, probabilities, labels=range(10))
    assert metrics["loss_nats"] == pytest.approx(expected, rel=TOLERANCE)


def test_large_logits_do_not_overflow() -> None:
    split = Split(np.zeros((3, 8, 8, 1), np.float32), np.array([0, 0, 1], np.int32))

    def predict(inputs: np.ndarray) -> np.ndarray:
        return np.tile(np.float32([1e30, -1e30]), (len(inputs), 1))

    metrics = evaluate(CLASSIFICATION, predict, split)
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["loss_nats"] == pytest.approx(2e30 / 3, rel=1e-6)  # of float32 logits
