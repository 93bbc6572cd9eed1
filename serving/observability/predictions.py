"""What a classifier says, summed up: how often each class, and how sure it was.

A shift of either is the first sign that inputs are no longer what the model was trained on.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import prod

import numpy as np

from serving.core.model import ServedModel
from serving.core.request import Arrays
from serving.observability.histogram import CONFIDENCES, Histogram

# Classes that have a series of their own, in the model's order; the others share one.
MAX_CLASSES = 100
OTHER_CLASS = "other"

# Logits that are looked at in one go, or one example's if that is more: of more examples, those at
# equal distances. They take about half a millisecond, in which nobody is answered.
MAX_VALUES = 2**14


class Predictions:
    """The distribution of one model's predictions.

    Args:
        output: the name of the output that has logits in its last dimension, one a class.
        class_names: what the classes are called.

    Attributes:
        labels: of the classes that have a series, `OTHER_CLASS` included if there is one.
        counts: predictions of each of them.
        confidence: of the largest probability, in softmax(logits).
    """

    def __init__(self, output: str, class_names: tuple[str, ...]) -> None:
        named = class_names[:MAX_CLASSES]
        self.labels = (*named, OTHER_CLASS) if len(class_names) > MAX_CLASSES else named
        self.counts = np.zeros(len(self.labels), np.int64)
        self.confidence = Histogram(CONFIDENCES)
        self._output, self._num_classes = output, len(class_names)

    def add(self, answers: Iterable[Arrays]) -> None:
        """Counts the predictions of some answers; one that lacks the output says nothing."""
        found = [answer[self._output] for answer in answers if self._output in answer]
        shape = (self._num_classes,)
        logits = _sample([one for one in found if one.shape[-1:] == shape], *shape)
        finite = logits[np.isfinite(logits).all(axis=1)]
        classes = np.minimum(finite.argmax(axis=1), len(self.labels) - 1)
        self.counts += np.bincount(classes, minlength=len(self.labels))
        for largest in _largest_probability(finite).tolist():
            self.confidence.observe(largest)


def predictions_of(model: ServedModel) -> Predictions | None:
    """Returns where a model's predictions are counted; None: it is no classifier."""
    num_classes = len(model.class_names)
    for spec in model.outputs:
        if num_classes and len(spec.shape) > 1 and spec.shape[-1] == num_classes:
            return Predictions(spec.name, model.class_names)
    return None


def _sample(answers: Sequence[np.ndarray], num_classes: int) -> np.ndarray:
    """Returns [n, num_classes] in float64: all rows of the answers, or some at equal distances."""
    sizes = [prod(logits.shape[:-1]) for logits in answers]
    step = max(-(-sum(sizes) * num_classes // MAX_VALUES), 1)
    begins = accumulate(sizes, initial=0)
    rows = [
        logits.reshape(size, num_classes)[-begin % step :: step]
        for logits, size, begin in zip(answers, sizes, begins, strict=False)
    ]
    return np.concatenate(rows or [np.empty((0, num_classes))]).astype(np.float64)


def _largest_probability(logits: np.ndarray) -> np.ndarray:
    """Returns [n], the largest of each row of softmax([n, num_classes])."""
    return 1 / np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf)).sum(axis=1)
