"""A factor goes from one value to another as its shape says, and nothing else is taken."""

import math

import pytest
from pydantic import ValidationError

from train.config.regularization import FactorConfig


def _factors(num_steps: int, **keys: object) -> list[float]:
    factor = FactorConfig.model_validate(keys)
    return [factor.at(step, num_steps) for step in range(num_steps + 1)]


def test_it_is_1_by_default() -> None:
    assert FactorConfig().is_off
    assert set(_factors(10)) == {1.0}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"shape": "constant", "initial": 0.3}, [0.3] * 11),
        ({"shape": "linear", "initial": 0.0}, [step / 10 for step in range(11)]),
        (
            {"shape": "linear", "final": 0.0, "begin": 0.2, "end": 0.6},
            [1, 1, 1, 0.75, 0.5, 0.25, 0, 0, 0, 0, 0],
        ),
        (
            {"shape": "cosine", "final": 0.5},
            [0.75 + 0.25 * math.cos(math.pi * step / 10) for step in range(11)],
        ),
        ({"shape": "step", "initial": 0.2, "begin": 0.25, "end": 0.75}, [0.2] * 5 + [1.0] * 6),
        ({"shape": "step", "final": 0.0, "begin": 0.5, "end": 0.5}, [1.0] * 5 + [0.0] * 6),
    ],
)
def test_shapes(keys: dict[str, object], expected: list[float]) -> None:
    assert _factors(10, **keys) == pytest.approx(expected, abs=1e-12)


def test_off_is_what_never_leaves_1() -> None:
    assert FactorConfig(shape="cosine").is_off
    assert not FactorConfig(shape="linear", final=0.5).is_off
    assert not FactorConfig(initial=0.5).is_off


def test_refuses_to_end_before_it_begins() -> None:
    with pytest.raises(ValidationError, match=r"begin: expected at most end \(0.5\), got 0.6"):
        FactorConfig(shape="linear", begin=0.6, end=0.5)


@pytest.mark.parametrize("key", ["final", "begin", "end"])
def test_refuses_a_change_that_has_no_shape(key: str) -> None:
    with pytest.raises(ValidationError, match=f"{key} 0.5 has an effect with shape linear, cosine"):
        FactorConfig.model_validate({"initial": 0.0, key: 0.5})
