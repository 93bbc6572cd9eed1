"""Plain numbers become a batch, however people nest them, or are refused with what is expected."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving.core.errors import ServingError
from serving.core.model import ServedModel
from serving.core.signature import TensorSpec
from serving.protocols.over_http.plain_inputs import plain_inputs
from serving.testing.served_models import DIGITS

TOKENS = TensorSpec("tokens", "INT32", (-1, 5), limit=10, padding=-1)


def model_of(*specs: TensorSpec) -> ServedModel:
    return replace(DIGITS, inputs=specs, max_batch_size=4)


IMAGES = np.arange(3 * 2 * 4, dtype=np.float32).reshape(3, 2, 4, 1)
OF_IMAGES = model_of(TensorSpec("x", "FP32", (-1, 2, 4, 1)))

NESTED: dict[str, tuple[Any, np.ndarray]] = {
    "a batch": (IMAGES.tolist(), IMAGES),
    "one example": (IMAGES[0].tolist(), IMAGES[:1]),
    "without channels": (IMAGES[0, ..., 0].tolist(), IMAGES[:1]),
    "a batch without channels": (IMAGES[..., 0].tolist(), IMAGES),
    "one flat example": (IMAGES[0].ravel().tolist(), IMAGES[:1]),
    "a batch of flat ones": (IMAGES.reshape(3, 8).tolist(), IMAGES),
    "a batch of one": (IMAGES[:1].tolist(), IMAGES[:1]),
    "by name": ({"x": IMAGES.tolist()}, IMAGES),
    "whole numbers": ([[1, 2, 3, 4], [5, 6, 7, 8]], np.arange(1, 9).reshape(1, 2, 4, 1)),
}


@pytest.mark.parametrize("case", NESTED)
def test_numbers_may_be_nested_as_people_do(case: str) -> None:
    given, expected = NESTED[case]
    array = plain_inputs(OF_IMAGES, given)["x"]
    assert array.dtype == np.float32
    assert array.shape == expected.shape
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("spec", "given", "expected"),
    [
        (TensorSpec("x", "FP32", (-1,)), [1, 2], [1, 2]),
        (TensorSpec("x", "FP32", (-1, 1)), [1, 2], [[1], [2]]),
        (TensorSpec("x", "FP32", (-1, 1)), [[1], [2]], [[1], [2]]),
        (TensorSpec("x", "FP32", (-1, -1)), [1, 2, 3], [[1, 2, 3]]),
        (TensorSpec("x", "FP32", (-1, -1)), [[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 5, 6]]),
        (TensorSpec("x", "BOOL", (-1, 2)), [True, False], [[True, False]]),
        (TensorSpec("x", "UINT64", (-1, 2)), [2**64 - 1, 0], [[2**64 - 1, 0]]),
        (TensorSpec("x", "FP16", (-1, 2)), [0.5, -1], [[0.5, -1]]),
        (TOKENS, [1, 2, 3, 4, 5], [[1, 2, 3, 4, 5]]),
        (TOKENS, [1, 2, 3], [[1, 2, 3]]),
        (TOKENS, [[1, 2, 3], [4], [5, 6]], [[1, 2, 3], [4, -1, -1], [5, 6, -1]]),
    ],
)
def test_every_kind_of_input(spec: TensorSpec, given: Any, expected: Any) -> None:
    array = plain_inputs(model_of(spec), given)["x" if spec is not TOKENS else "tokens"]
    np.testing.assert_array_equal(array, expected)


def test_several_inputs_come_by_name() -> None:
    model = model_of(TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "INT8", (-1,)))
    arrays = plain_inputs(model, {"b": [1, 2], "a": [[1, 2], [3, 4]]})
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "a": [[1, 2], [3, 4]],
        "b": [1, 2],
    }
    with pytest.raises(ServingError, match="expected an object by name; the model's inputs: a FP"):
        plain_inputs(model, [[1, 2]])
    with pytest.raises(ServingError, match="missing input 'b'; expected inputs: a FP32"):
        plain_inputs(model, {"a": [[1, 2]]})
    with pytest.raises(ServingError, match="inputs differ in their batch: 2 in 'a', 1 in 'b'"):
        plain_inputs(model, {"a": [[1, 2], [3, 4]], "b": [1]})


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": (None, "input 'x': expected a list of numbers"),
    "a number": (3, "input 'x': expected a list of numbers"),
    "text": ("123", "input 'x': expected a list of numbers"),
    "an empty list": ([], r"'x' has lists of the shape \[0\]; expected one example of the shape"),
    "empty lists": ([[], []], r"of the shape \[2, 0\]; expected"),
    "another shape": ([[1, 2, 3]], r"of the shape \[1, 3\]; expected .* \[2, 4, 1\]"),
    "a ragged list": ([[1, 2, 3, 4], [1, 2]], "'x' has lists of other lengths; expected 8"),
    "ragged deeper": ([[1, 2, 3, 4], [1, 2, [3], 4]], "the element a list; expected numbers"),
    "text inside": ([["1"] * 4] * 2, "the element a string; expected numbers for FP32"),
    "null inside": ([[None] * 4] * 2, "the element null; expected numbers for FP32"),
    "a truth inside": ([[1, 2, 3, True]] * 2, "the element true; expected numbers for FP32"),
    "an object inside": ([[1, 2, 3, {}]] * 2, "the element an object; expected numbers"),
    "too much for the type": ([[1e39] * 4] * 2, "'x' has values outside FP32; expected -3.4"),
    "too many examples": (IMAGES[[0] * 5].tolist(), "'x' has a batch of 5; expected 1 to 4"),
    "another name": ({"y": [1]}, "unexpected input 'y'; expected inputs: x FP32"),
    "no name": ({}, "missing input 'x'; expected inputs: x FP32"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case: str) -> None:
    given, message = REFUSED[case]
    with pytest.raises(ServingError, match=message):
        plain_inputs(OF_IMAGES, given)


@pytest.mark.parametrize("shape", [(8,), (2, 4), (3, 8), (3, 2, 4, 1)])
def test_arrays_are_read_as_lists_are(shape: tuple[int, ...]) -> None:
    """As large lists come."""
    given = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    for form in (given, {"x": given}):
        arrays = plain_inputs(OF_IMAGES, form)
        np.testing.assert_array_equal(arrays["x"], plain_inputs(OF_IMAGES, given.tolist())["x"])
    with pytest.raises(ServingError, match=r"of the shape \[3\]; expected"):
        plain_inputs(OF_IMAGES, np.arange(3))


def test_lists_in_lists_without_end_are_refused() -> None:
    given: Any = 1.0
    for _ in range(1000):
        given = [given]
    with pytest.raises(ServingError, match="lists are nested too deeply"):
        plain_inputs(OF_IMAGES, given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1, 2, 3, 4, 5, 6], r"of the shape \[6\]; expected one example of the shape \[5\]"),
        ([[1, 2], []], "'tokens' has lists of other lengths"),
        ([[1, 10]], "'tokens' has the value 10; expected values below 10"),
        ([1.5], "the element 1.5; expected whole numbers for INT32"),
        ([2**31], "'tokens' has values outside INT32; expected -2147483648 to 2147483647"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ServingError, match=message):
        plain_inputs(model_of(TOKENS), given)
