"""Encoded requests, read by protobuf, are those that protobuf would have written."""

import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference import grpc_service_pb2 as oip

from serving.client.encoding import encode_request

DATATYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "u2",
    "UINT32": "u4",
    "UINT64": "u8",
    "INT8": "i1",
    "INT16": "i2",
    "INT32": "i4",
    "INT64": "i8",
    "FP16": "f2",
    "BF16": ml_dtypes.bfloat16,
    "FP32": "f4",
    "FP64": "f8",
}


def values(datatype: str, shape: tuple[int, ...]) -> np.ndarray:
    bits = np.random.default_rng(3).integers(-100, 100, shape)
    return (bits > 0) if datatype == "BOOL" else bits.astype(DATATYPES[datatype])


def decoded(encoded: bytes) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest.FromString(encoded)
    # Nothing is in it that protobuf does not know.
    assert len(request.SerializeToString()) == len(encoded)
    return request


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (5, 2, 3)])
def test_every_datatype_and_shape(datatype: str, shape: tuple[int, ...]) -> None:
    array = values(datatype, shape)
    request = decoded(encode_request("m", {"x": array}))
    (tensor,) = request.inputs
    assert (tensor.name, tensor.datatype, tuple(tensor.shape)) == ("x", datatype, shape)
    assert list(request.raw_input_contents) == [array.tobytes()]
    assert not tensor.HasField("contents")


# Lengths around those at which the varint of a length grows by a byte.
@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 2**14 - 1, 2**14, 2**21 - 1, 2**21])
def test_every_length(size: int) -> None:
    array = np.arange(size, dtype=np.uint8)
    request = decoded(encode_request("m", {"x": array, "y": array[:3]}))
    assert [len(content) for content in request.raw_input_contents] == [size, min(size, 3)]
    assert request.raw_input_contents[0] == array.tobytes()


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda array: array[::2, ::-1],
        lambda array: array.astype(array.dtype.newbyteorder(">")),
        lambda array: np.broadcast_to(array[:1], array.shape),
        lambda array: array.T,
    ],
)
def test_any_memory_layout_is_sent_in_row_major_order_and_little_endian(layout: Any) -> None:
    array = layout(np.arange(24, dtype=np.float32).reshape(4, 6))
    request = decoded(encode_request("m", {"x": array}))
    expected = struct.pack(f"<{array.size}f", *array.ravel(order="C").tolist())
    assert request.raw_input_contents[0] == expected
    assert tuple(request.inputs[0].shape) == array.shape


@given(st.lists(st.binary(max_size=300) | st.text(max_size=20), max_size=20))
def test_byte_strings_have_their_length_in_front(strings: list[bytes | str]) -> None:
    array = np.empty(len(strings), object)
    array[:] = strings
    request = decoded(encode_request("m", {"x": array}))
    content, found = request.raw_input_contents[0], []
    while content:  # as in Triton's documents of the extension for binary data
        (length,) = struct.unpack_from("<I", content)
        found.append(content[4 : 4 + length])
        content = content[4 + length :]
    assert found == [s if isinstance(s, bytes) else s.encode() for s in strings]
    assert (request.inputs[0].datatype, list(request.inputs[0].shape)) == ("BYTES", [len(strings)])


@pytest.mark.parametrize("array", [np.array([[b"a", b"bc"]]), np.array([["a", "bc"]])])
def test_numpys_own_strings_are_byte_strings(array: np.ndarray) -> None:
    request = decoded(encode_request("m", {"x": array}))
    assert request.raw_input_contents[0] == b"\1\0\0\0a\2\0\0\0bc"
    assert list(request.inputs[0].shape) == [1, 2]


def test_everything_else_that_a_request_says() -> None:
    parameters = {"b": True, "i": -5, "u": 2**64 - 1, "d": 0.5, "s": "text"}
    request = decoded(
        encode_request(
            "model",
            {"x": np.zeros(1, np.int8)},
            version="7",
            outputs=["y", "z"],
            request_id="42",
            priority=3,
            parameters=parameters,
        )
    )
    assert (request.model_name, request.model_version, request.id) == ("model", "7", "42")
    assert [output.name for output in request.outputs] == ["y", "z"]
    found = {name: p.WhichOneof("parameter_choice") for name, p in request.parameters.items()}
    assert found == {
        "b": "bool_param",
        "i": "int64_param",
        "u": "uint64_param",
        "d": "double_param",
        "s": "string_param",
        "priority": "uint64_param",
    }
    for name, value in (parameters | {"priority": 3}).items():
        assert getattr(request.parameters[name], found[name]) == value


def test_outputs_may_have_parameters() -> None:
    wanted = {"y": {"classification": 3}, "z": {}}
    first, second = decoded(encode_request("m", {}, outputs=wanted)).outputs
    assert (first.name, second.name) == ("y", "z")
    assert first.parameters["classification"].int64_param == 3
    assert not second.parameters


def test_the_usual_priority_is_not_sent() -> None:
    assert not decoded(encode_request("m", {})).parameters


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(1, complex), "input 'x' is complex128; expected one of BOOL, .*BYTES"),
        (np.zeros(1, "V4"), r"input 'x' is \|V4; expected one of BOOL"),
        (np.zeros(1, [("a", "<f4")]), "expected one of BOOL"),
        (np.zeros(1, "M8[s]"), r"input 'x' is datetime64\[s\]; expected one of BOOL"),
        (np.array([b"a", 1], object), "input 'x' holds a int; expected bytes or text"),
        (np.array([None], object), "input 'x' holds a NoneType; expected bytes or text"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        encode_request("m", {"x": array})


def test_other_parameters_are_refused() -> None:
    with pytest.raises(TypeError, match="parameter 'p' is list; expected bool, int, float or str"):
        encode_request("m", {}, parameters={"p": []})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="out of range|too large"):  # protobuf's own words
        encode_request("m", {}, parameters={"p": 2**64})
    with pytest.raises(ValueError, match="out of range|too large"):
        encode_request("m", {}, priority=-1)
