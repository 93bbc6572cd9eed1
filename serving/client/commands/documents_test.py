"""JSON of each accepted form becomes the arrays that it says, and no other JSON does."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from serving.client.commands.documents import Spec, request_from

FLOATS = [Spec("x", "FP32")]
TENSOR = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        ("BOOL", [True, False], np.array([True, False])),
        ("UINT8", [0, 255], np.array([0, 255], np.uint8)),
        ("INT64", [-(2**63), 2**63 - 1], np.array([-(2**63), 2**63 - 1])),
        ("UINT64", [2**64 - 1], np.array([2**64 - 1], np.uint64)),
        ("FP16", [0.5], np.array([0.5], np.float16)),
        ("BF16", [[1, 2.5]], np.array([[1, 2.5]], ml_dtypes.bfloat16)),
        ("FP32", [[1], [2]], np.array([[1], [2]], np.float32)),
        ("FP64", 0.1, np.array(0.1)),
        ("FP32", [], np.array([], np.float32)),
        ("BYTES", [["a"], ["bc"]], np.array([["a"], ["bc"]], object)),
    ],
)
def test_numbers_become_the_datatype_of_the_input(
    datatype: str, data: Any, expected: np.ndarray
) -> None:
    specs = [Spec("x", datatype)]
    for document in (data, {"x": data}):
        if isinstance(document, float):
            continue  # a lone number is given by name only
        array = request_from(document, specs).inputs["x"]
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("data", [[[1, 2]], [1, 2]])
def test_a_request_of_the_protocol_is_reshaped(data: Any) -> None:
    request = request_from(
        {
            "inputs": [{"name": "y", "datatype": "INT8", "shape": [1, 2], "data": data}],
            "outputs": [{"name": "a"}, {"name": "b", "parameters": {"classification": 2}}],
            "id": "7",
            "parameters": {"priority": 1},
        },
        FLOATS,
    )
    assert request.inputs["y"].tolist() == [[1, 2]]
    assert request.inputs["y"].dtype == np.int8
    assert request.outputs == {"a": {}, "b": {"classification": 2}}
    assert (request.request_id, request.parameters) == ("7", {"priority": 1})


def test_an_input_that_is_called_inputs_is_no_request() -> None:
    array = request_from({"inputs": [1, 2]}, [Spec("inputs", "FP32")]).inputs["inputs"]
    assert array.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("document", "specs", "message"),
    [
        ({"y": [1]}, FLOATS, "the model has no input 'y'; it has 'x'"),
        ([1], [*FLOATS, Spec("z", "FP32")], r"the model has 2 inputs \('x', 'z'\); give them by"),
        ([1], [], r"the model has 0 inputs"),
        (["1"], FLOATS, "input 'x' is no FP32 array: it has the value '1'"),
        ([None], FLOATS, "it has the value None"),
        ([True], FLOATS, "it has the value True"),
        ([{}], FLOATS, "it has the value {}"),
        ([[1], [1, 2]], FLOATS, "input 'x' is no FP32 array"),
        ([1.5], [Spec("x", "INT32")], "input 'x' is no INT32 array: it has the value 1.5"),
        ([True], [Spec("x", "INT32")], "it has the value True"),
        ([1], [Spec("x", "BOOL")], "it has the value 1"),
        ([256], [Spec("x", "UINT8")], "input 'x' is no UINT8 array"),
        ([2**64], [Spec("x", "UINT64")], "input 'x' is no UINT64 array"),
        ([1], [Spec("x", "FP8")], "input 'x' has datatype 'FP8'; expected one of BOOL"),
        ({"inputs": [{**TENSOR, "shape": [3]}]}, FLOATS, r"input 'x' has 2 values, shape \[3\]"),
        ({"inputs": [{**TENSOR, "shape": "a"}]}, FLOATS, "input 'x' has 2 values, shape a"),
        ({"inputs": [{**TENSOR, "parameters": {}}]}, FLOATS, "an input has 'parameters'; accepted"),
        ({"inputs": [{"name": "x"}]}, FLOATS, "an input has no 'datatype'"),
        ({"inputs": [TENSOR], "input": []}, FLOATS, "the request has 'input'; accepted: inputs,"),
        ({"inputs": [TENSOR], "outputs": ["y"]}, FLOATS, "an output must be an object with name"),
        ({"inputs": [TENSOR], "outputs": [{}]}, FLOATS, "an output has no 'name'"),
        ({"inputs": [TENSOR, 1]}, FLOATS, "the model has no input 'inputs'"),
    ],
)
def test_other_documents_are_refused(document: Any, specs: list[Spec], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        request_from(document, specs)
