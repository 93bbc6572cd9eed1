"""Hyperparameters are checked, and optimizers are found by name."""

import math

import pytest
from pydantic import ValidationError

from optim.adabelief import AdaBelief
from optim.registry import ALGORITHMS, algorithm


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learning_rate", -1e-3, "greater than or equal to 0"),
        ("learning_rate", math.nan, "finite number"),
        ("weight_decay", -0.1, "greater than or equal to 0"),
        ("beta1", 1.0, "less than 1"),
        ("beta2", -0.1, "greater than or equal to 0"),
        ("beta1", "0.9", "valid number"),
        ("momentum", 0.9, "Extra inputs are not permitted"),
    ],
)
def test_refuses(name: str, key: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        algorithm(name, **{key: value})
    assert key in str(error.value)


@pytest.mark.parametrize(
    ("name", "key"),
    [("adamw", "epsilon"), ("adan", "epsilon"), ("adabelief", "epsilon"), ("sophia", "gamma")],
)
def test_refuses_zero(name: str, key: str) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        algorithm(name, **{key: 0.0})


def test_refuses_an_unknown_name_and_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="'adam'; accepted: adabelief, adamw, adan, lion, sophia"):
        algorithm("adam")


def test_every_algorithm_names_its_paper_and_its_update() -> None:
    for kind in ALGORITHMS.values():
        assert "https://arxiv.org/abs/" in str(kind.__doc__)
        assert "w <- w - lr * (u + weight_decay * w)" in str(kind.__doc__)


def test_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        AdaBelief().rectify = True  # type: ignore[misc]
