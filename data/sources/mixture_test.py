"""One rule does for one cluster and not for all, which is what a router is for."""

import numpy as np
import pytest
from pydantic import ValidationError

from data.sources.mixture import MIXTURE, MixtureOptions

OPTIONS = {"num_clusters": 6, "num_features": 12, "num_classes": 4, "separation": 5.0}


def _options(**changes: float) -> MixtureOptions:
    return MixtureOptions.model_validate({**OPTIONS, "num_train": 6000, "num_test": 600, **changes})


def _clusters(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.square(points[:, np.newaxis] - centres).sum(axis=-1).argmin(axis=1)


def _centres(points: np.ndarray, number: int) -> np.ndarray:
    """Finds clusters that are far apart, from a point of each on."""
    centres = points[:1]
    while len(centres) < number:
        distances = np.square(points[:, np.newaxis] - centres).sum(axis=-1).min(axis=1)
        centres = np.concatenate([centres, points[[distances.argmax()]]])
    for _ in range(5):
        nearest = _clusters(points, centres)
        centres = np.stack([points[nearest == i].mean(axis=0) for i in range(number)])
    return centres


def _linear_accuracy(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> float:
    """Returns what least squares to the classes get right."""
    ones = [np.column_stack([inputs, np.ones(len(inputs))]) for inputs, _ in (train, test)]
    weights, *_ = np.linalg.lstsq(ones[0], np.eye(4)[train[1]], rcond=None)
    return float(np.mean((ones[1] @ weights).argmax(axis=1) == test[1]))


def test_each_cluster_has_a_rule_of_its_own() -> None:
    data = MIXTURE.load(_options())
    train, test = ((split.inputs, split.targets) for split in (data.train, data.test))
    assert _linear_accuracy(train, test) < 0.5
    centres = _centres(train[0], 6)
    of_train, of_test = _clusters(train[0], centres), _clusters(test[0], centres)
    for cluster in range(6):
        ours, theirs = of_train == cluster, of_test == cluster
        assert 0.1 < ours.mean() < 0.25
        own = _linear_accuracy((train[0][ours], train[1][ours]), (test[0][theirs], test[1][theirs]))
        assert own > 0.7


def test_types_and_seeds() -> None:
    options = _options()
    data, spec = MIXTURE.load(options), MIXTURE.describe(options)
    assert data.train.inputs.shape == (6000, *spec.input_shape)
    assert (data.train.inputs.dtype, data.train.targets.dtype) == (np.float32, np.int32)
    assert set(data.test.targets) == set(range(4)) == set(range(spec.num_classes or 0))
    assert MIXTURE.load(options).digest == data.digest != MIXTURE.load(_options(seed=1)).digest


def test_refuses_more_than_memory_should_hold() -> None:
    with pytest.raises(ValidationError, match="lower them or num_features"):
        _options(num_train=2**24, num_features=4096)
    with pytest.raises(ValidationError, match="num_classes 4096 have more than 134,217,728 values"):
        _options(num_clusters=4096, num_classes=4096)
