"""How well a classifier does."""

from typing import Any

import numpy as np

from data.dataset import ExampleSpec
from train.tasks.estimates import Estimate, moments, ratio, share
from train.tasks.task import Outcomes, Summary, Tally

# Bins of equal width of what a model is sure of, as in the paper.
NUM_BINS = 15

# Of more classes nobody reads the confusion matrix, which would fill memory.
MAX_CONFUSION_CLASSES = 1000

# Of no more classes every answer would be right.
TOP = 5


def measure(logits: np.ndarray, labels: np.ndarray) -> Tally:
    """Measures predictions, in float64.

    Args:
        logits: `[num_examples, num_classes]` float32.
        labels: `[num_examples]` integers.

    Returns:
        What `summarize` makes the metrics of.
    """
    logits = logits.astype(np.float64)
    num_classes, rows = logits.shape[1], np.arange(len(labels))
    values = outcomes(logits, labels).values
    predicted = logits.argmax(axis=1)
    correct = values["accuracy"]
    # Bin m of M holds the confidences in ((m - 1) / M, m / M].
    confidences = np.exp(logits[rows, predicted] - np.logaddexp.reduce(logits, axis=1))
    numbers = np.nan_to_num(np.ceil(confidences * NUM_BINS) - 1)  # of a model that diverged
    bins = numbers.clip(0, NUM_BINS - 1).astype(np.int64)
    tally = {
        "losses": moments(values["loss_nats"]),
        "count": np.array(len(labels)),
        "correct": np.count_nonzero(correct),
        "bin_counts": np.bincount(bins, minlength=NUM_BINS),
        "bin_correct": np.bincount(bins, correct, NUM_BINS),
        "bin_confidence": np.bincount(bins, confidences, NUM_BINS),
    }
    if "top5_accuracy" in values:
        tally["top5"] = np.count_nonzero(values["top5_accuracy"])
    if num_classes <= MAX_CONFUSION_CLASSES:
        cells = np.bincount(labels.astype(np.int64) * num_classes + predicted, None, num_classes**2)
        tally["confusion"] = cells.reshape(num_classes, num_classes)
    return {name: np.asarray(value) for name, value in tally.items()}


def outcomes(logits: np.ndarray, labels: np.ndarray) -> Outcomes:
    """Returns of each example whether it is right, and its loss, in float64.

    Args:
        logits: `[num_examples, num_classes]` float32 or float64.
        labels: `[num_examples]` integers.
    """
    logits = logits.astype(np.float64)
    num_classes, target_logits = logits.shape[1], logits[np.arange(len(labels)), labels]
    values = {
        "accuracy": logits.argmax(axis=1) == labels,
        "loss_nats": np.logaddexp.reduce(logits, axis=1) - target_logits,
    }
    if num_classes > TOP:
        # Of equal logits the first counts as higher, as it does in `argmax`.
        targets = target_logits[:, np.newaxis]
        higher = (logits > targets).sum(axis=1)
        before = (np.arange(num_classes) < labels[:, np.newaxis]) & (logits == targets)
        values["top5_accuracy"] = higher + before.sum(axis=1) < TOP
    return Outcomes(values, np.ones(len(labels)))


def summarize(total: Tally, examples: ExampleSpec) -> Summary | None:
    """Returns `accuracy`, `top5_accuracy` of more than 5 classes, `loss_nats`, `calibration_error`.

    `loss_nats` is the mean cross-entropy; `calibration_error` how far on average the share that is
    right is from the probability that the model gives to its answer, over 15 bins of equal width of
    that probability. It has no interval: of few examples the error that is measured is larger than
    that of all, so that one around it would be wrong.

    Tables: `confusion_matrix` [num_classes, num_classes], how many examples of each class (a row)
    are taken for each class (a column); and what `calibration_error` is made of.

    Reference: Guo et al., "On Calibration of Modern Neural Networks",
    https://arxiv.org/abs/1706.04599.
    """
    count = int(total["count"])
    if not count:
        return None
    gaps = np.abs(total["bin_correct"] - total["bin_confidence"])
    estimates = {
        "accuracy": share(float(total["correct"]), count),
        "loss_nats": ratio(total["losses"]),
        "calibration_error": Estimate(float(gaps.sum()) / count),
    }
    if "top5" in total:
        estimates["top5_accuracy"] = share(float(total["top5"]), count)
    tables: dict[str, Any] = {"calibration": _calibration(total)}
    if "confusion" in total:
        tables["confusion_matrix"] = total["confusion"].tolist()
    return Summary(estimates, count, tables)


def _calibration(total: Tally) -> list[dict[str, float]]:
    """Returns of each bin that is not empty where it ends, and the means of what is in it."""
    columns = (total[f"bin_{name}"].tolist() for name in ("counts", "correct", "confidence"))
    return [
        {
            "up_to": (number + 1) / NUM_BINS,
            "num_examples": count,
            "accuracy": correct / count,
            "confidence": confidence / count,
        }
        for number, (count, correct, confidence) in enumerate(zip(*columns, strict=True))
        if count
    ]
