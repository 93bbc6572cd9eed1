"""Whether outputs are numbers, for every type that they may have."""

import ml_dtypes
import numpy as np
import pytest

from serving.core.signature import DTYPES
from serving.replicas.compute import computed, has_nonfinite

FLOATS = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_no_number_is_found_wherever_it_is(dtype: type, value: float) -> None:
    for place in (0, 500, 999):
        array = np.ones(1000, dtype).reshape(10, 100)
        array.flat[place] = value
        assert has_nonfinite(array)


@pytest.mark.parametrize("dtype", FLOATS)
def test_infinities_that_cancel_are_found(dtype: type) -> None:
    assert has_nonfinite(np.array([np.inf, -np.inf, 1], dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_finite_values_whose_sum_overflows_are_numbers(dtype: type) -> None:
    largest = ml_dtypes.finfo(dtype).max
    assert not has_nonfinite(np.full((4, 4), largest, dtype))
    assert not has_nonfinite(np.zeros((0, 3), dtype))


@pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "INT64", "UINT64"])
def test_other_types_hold_nothing_else(datatype: str) -> None:
    dtype = DTYPES[datatype]
    assert not has_nonfinite(np.full(8, 255, np.uint8).view(dtype))


def test_only_what_is_wanted_is_looked_at() -> None:
    outputs = {"a": np.array([[1.0]]), "b": np.array([[np.nan]])}
    assert not computed(lambda _: outputs, {}, ["a"], 1, "r").nonfinite
    assert computed(lambda _: outputs, {}, ["b", "a"], 1, "r").nonfinite


def test_outputs_are_contiguous() -> None:
    output = np.arange(12.0).reshape(3, 4).T
    (answer,) = computed(lambda _: {"a": output}, {}, ["a"], 4, "r").outputs.values()
    assert answer.flags.c_contiguous
    np.testing.assert_array_equal(answer, output)
