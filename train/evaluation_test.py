"""Metrics agree with scikit-learn's, whatever the number of images is."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    log_loss,
    top_k_accuracy_score,
)

from data.dataset import ExampleSpec, Split
from train.evaluation import Evaluation, evaluate
from train.tasks.classification.evaluation import MAX_CONFUSION_CLASSES
from train.tasks.classification.task import CLASSIFICATION
from train.tasks.estimates import share

# Both in float64; sklearn normalises probabilities first.
TOLERANCE = 1e-9

_IMAGES = ExampleSpec("images", (8, 8, 1), "float32", 10)


def _linear(images: np.ndarray) -> np.ndarray:
    weights = np.random.default_rng(1).normal(size=(64, 10)).astype(np.float32)
    return images.reshape(len(images), -1) @ weights


def _evaluated(logits: Any, labels: Any) -> Evaluation:
    logits = np.asarray(logits, np.float32)
    split = Split(np.arange(len(logits)), np.asarray(labels, np.int32))
    return evaluate(CLASSIFICATION, lambda i: logits[i], split, _IMAGES)


def _calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Guo et al., https://arxiv.org/abs/1706.04599, (3), bin by bin as it is written there."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    error = 0.0
    for m in range(1, 16):
        inside = ((m - 1) / 15 < confidence) & (confidence <= m / 15)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            error += inside.sum() / len(labels) * gap
    return float(error)


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
    labels = list(range(10))

    found = evaluate(CLASSIFICATION, _linear, split, _IMAGES)
    predicted = logits.argmax(axis=1)
    expected = {
        "accuracy": accuracy_score(split.targets, predicted),
        "top5_accuracy": top_k_accuracy_score(split.targets, logits, k=5, labels=labels),
        "loss_nats": log_loss(split.targets, probabilities, labels=labels),
        "calibration_error": _calibration_error(probabilities, split.targets),
    }
    assert found.metrics == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)
    matrix = confusion_matrix(split.targets, predicted, labels=labels)
    np.testing.assert_array_equal(found.tables["confusion_matrix"], matrix)
    assert (found.num_examples, found.num_counted) == (size, size)
    right = (predicted == split.targets).sum()
    assert found.intervals["accuracy"] == share(right, size).interval
    assert found.intervals.keys() <= found.metrics.keys() - {"calibration_error"}


def test_large_logits_do_not_overflow() -> None:
    found = _evaluated(np.tile([1e30, -1e30], (3, 1)), [0, 0, 1]).metrics
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["loss_nats"] == pytest.approx(2e30 / 3, rel=1e-6)  # of float32 logits


def test_a_model_that_diverged_is_measured_and_found_out() -> None:
    found = _evaluated(np.full((3, 10), np.nan), [0, 1, 2]).metrics
    assert np.isnan(found["loss_nats"]) and np.isnan(found["calibration_error"])


def test_of_equal_logits_the_first_are_the_highest() -> None:
    """So that a model that knows nothing is not always right."""
    found = _evaluated(np.zeros((10, 10)), range(10)).metrics
    assert (found["accuracy"], found["top5_accuracy"]) == (0.1, 0.5)


def test_of_five_classes_the_five_highest_are_all() -> None:
    assert "top5_accuracy" not in _evaluated(np.eye(5), range(5)).metrics
    assert _evaluated(np.eye(6), range(6)).metrics["top5_accuracy"] == 1.0


def test_sure_and_wrong_is_badly_calibrated() -> None:
    found = _evaluated(100 * np.eye(4)[[0, 1, 2, 3]], [1, 2, 3, 0])
    assert found.metrics["calibration_error"] == pytest.approx(1.0)
    assert found.tables["calibration"] == [
        {"up_to": 1.0, "num_examples": 4, "accuracy": 0.0, "confidence": pytest.approx(1.0)}
    ]


def test_of_very_many_classes_there_is_no_confusion_matrix() -> None:
    logits = np.zeros((2, MAX_CONFUSION_CLASSES + 1))
    assert "confusion_matrix" not in _evaluated(logits, [0, 1]).tables
