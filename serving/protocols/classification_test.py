"""The largest values are found, named, and written so that they can be read back."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.core.errors import Kind, ServingError
from serving.core.signature import TensorSpec
from serving.protocols.classification import check_classification, classify

LABELS = ["apple", "pear", "plum", "fig"]


def test_example_of_the_specification() -> None:
    values = np.array([[1, 5, 10, 4]], np.int32)
    assert classify(values, 2, []).tolist() == [[b"10:2", b"5:1"]]
    assert classify(values, 2, LABELS).tolist() == [[b"10:2:plum", b"5:1:pear"]]


def test_values_of_all_dimensions_count() -> None:
    values = np.array([[[1, 2], [3, 0]]], np.uint8)
    assert classify(values, 3, LABELS).tolist() == [[b"3:2:plum", b"2:1:pear", b"1:0:apple"]]


def test_values_beyond_the_labels_have_none() -> None:
    assert classify(np.array([[0.5, 1.5]]), 2, ["a"]).tolist() == [[b"1.5:1", b"0.5:0:a"]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, ml_dtypes.bfloat16, np.float32])
@given(data=st.data())
def test_equals_a_sort_by_value_and_index(dtype: type, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 9)))
    numbers = data.draw(hnp.arrays(np.int8, shape))
    values = (numbers if np.dtype(dtype).kind in "iu" else numbers / 7).astype(dtype)
    count = data.draw(st.integers(1, shape[1]))
    classified = classify(values, count, [])
    for row, strings in zip(values.tolist(), classified, strict=True):
        expected = sorted(range(len(row)), key=lambda index: (-row[index], index))[:count]
        assert [int(string.split(b":")[1]) for string in strings] == expected
        read_back = np.array([float(string.split(b":")[0]) for string in strings]).astype(dtype)
        np.testing.assert_array_equal(read_back, np.array([row[i] for i in expected], dtype))


@pytest.mark.parametrize(
    "spec", [TensorSpec("x", "FP32", (-1, 2, 5)), TensorSpec("x", "FP32", (-1, 10))]
)
def test_more_classes_than_there_are_are_refused(spec: TensorSpec) -> None:
    check_classification(spec, 10)
    with pytest.raises(ServingError, match="'x': classification is 11; expected 1 to 10") as error:
        check_classification(spec, 11)
    assert error.value.kind is Kind.INVALID


@pytest.mark.parametrize("spec", [TensorSpec("x", "BOOL", (-1, 9)), TensorSpec("x", "FP32", (-1,))])
def test_what_has_no_classes_is_refused(spec: TensorSpec) -> None:
    with pytest.raises(ServingError, match="expected an output of numbers for each example"):
        check_classification(spec, 1)
