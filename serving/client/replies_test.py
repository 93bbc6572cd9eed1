"""Replies of any server are read in either form; what breaks the protocol is named."""

import struct
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from inference import grpc_service_pb2 as oip

from serving.client.replies import decode_outputs
from serving.protocols.elements import TensorContentError

Response = oip.ModelInferResponse

# By datatype: the typed field by the protocol's table, values at its limits, and the same values
# packed by struct. BYTES have their length in four bytes before them.
TYPED = [
    ("BOOL", "bool_contents", [True, False], struct.pack("<2?", True, False)),
    ("INT8", "int_contents", [-128, 127], struct.pack("<2b", -128, 127)),
    ("INT16", "int_contents", [-(2**15), 2**15 - 1], struct.pack("<2h", -(2**15), 2**15 - 1)),
    ("INT32", "int_contents", [-(2**31), 2**31 - 1], struct.pack("<2i", -(2**31), 2**31 - 1)),
    ("INT64", "int64_contents", [-(2**63), 2**63 - 1], struct.pack("<2q", -(2**63), 2**63 - 1)),
    ("UINT8", "uint_contents", [0, 255], struct.pack("<2B", 0, 255)),
    ("UINT16", "uint_contents", [0, 2**16 - 1], struct.pack("<2H", 0, 2**16 - 1)),
    ("UINT32", "uint_contents", [0, 2**32 - 1], struct.pack("<2I", 0, 2**32 - 1)),
    ("UINT64", "uint64_contents", [0, 2**64 - 1], struct.pack("<2Q", 0, 2**64 - 1)),
    ("FP32", "fp32_contents", [0.5, -np.inf], struct.pack("<2f", 0.5, -np.inf)),
    ("FP64", "fp64_contents", [0.1, np.inf], struct.pack("<2d", 0.1, np.inf)),
    ("BYTES", "bytes_contents", [b"", b"\0\xff\n"], b"\0\0\0\0\3\0\0\0\0\xff\n"),
]


def typed(field: str, values: list[object], datatype: str, *shape: int) -> Response:
    response = Response()
    tensor = response.outputs.add(name="x", datatype=datatype, shape=shape)
    getattr(tensor.contents, field).extend(values)
    return response


def raw(content: bytes, datatype: str, *shape: int) -> Response:
    response = Response(raw_output_contents=[content])
    response.outputs.add(name="x", datatype=datatype, shape=shape)
    return response


@pytest.mark.parametrize(("datatype", "field", "values", "packed"), TYPED)
def test_both_forms_are_read(
    datatype: str, field: str, values: list[object], packed: bytes
) -> None:
    for response in (typed(field, values, datatype, 2, 1), raw(packed, datatype, 2, 1)):
        array = decode_outputs(response)["x"]
        assert array.shape == (2, 1)
        assert array.ravel().tolist() == values
        assert not array.flags.writeable
    names = {"BOOL": "bool", "FP32": "float32", "FP64": "float64", "BYTES": "object"}
    assert array.dtype.name == names.get(datatype, datatype.lower())


@pytest.mark.parametrize(("datatype", "field", "values", "packed"), TYPED)
def test_empty_and_scalar_tensors_are_read(
    datatype: str, field: str, values: list[object], packed: bytes
) -> None:
    for response in (typed(field, [], datatype, 0, 3), raw(b"", datatype, 0, 3)):
        assert decode_outputs(response)["x"].shape == (0, 3)
    assert decode_outputs(typed(field, values[:1], datatype))["x"].tolist() == values[0]


@pytest.mark.parametrize(("datatype", "dtype"), [("FP16", "e"), ("BF16", ml_dtypes.bfloat16)])
def test_half_precision_is_raw_only(datatype: str, dtype: object) -> None:
    array = np.array([0.5, -2.0], np.dtype(dtype))
    np.testing.assert_array_equal(decode_outputs(raw(array.tobytes(), datatype, 2))["x"], array)
    with pytest.raises(TensorContentError, match=f"output 'x': {datatype} exists in raw form only"):
        decode_outputs(typed("fp32_contents", [0.5], datatype, 1))


def test_several_outputs_keep_their_names() -> None:
    response = typed("fp32_contents", [1.0], "FP32", 1)
    response.outputs.add(name="y", datatype="INT8", shape=[1]).contents.int_contents.append(2)
    assert {name: array.tolist() for name, array in decode_outputs(response).items()} == {
        "x": [1.0],
        "y": [2],
    }
    assert decode_outputs(Response()) == {}


def test_an_empty_field_beside_raw_bytes_says_nothing() -> None:
    """As MLServer 1.7 answers."""
    response = raw(bytes(4), "FP32", 1)
    response.outputs[0].contents.SetInParent()
    assert decode_outputs(response)["x"].tolist() == [0.0]


def mixed() -> Response:
    """The first output raw, the second typed."""
    response = raw(bytes(4), "FP32", 1)
    response.outputs.add(name="y", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
    return response


def twice() -> Response:
    response = typed("fp32_contents", [1.0], "FP32", 1)
    response.outputs.append(response.outputs[0])
    return response


def both() -> Response:
    response = typed("fp32_contents", [1.0], "FP32", 1)
    response.raw_output_contents.append(bytes(4))
    return response


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (mixed, "raw_output_contents holds 1 entries for 2 outputs"),
        (twice, "output 'x' occurs twice"),
        (both, "output 'x' has contents beside raw_output_contents"),
        (
            lambda: typed("fp32_contents", [1.0], "FP32", 2),
            "output 'x' has 1 elements; expected 2",
        ),
        (lambda: typed("fp32_contents", [], "FP32", 2), "has 0 elements; expected 2"),
        (
            lambda: typed("fp64_contents", [1.0], "FP32", 1),
            "has fp64_contents; expected fp32_contents for FP32",
        ),
        (lambda: typed("int_contents", [128], "INT8", 1), "has values outside INT8"),
        (lambda: typed("uint_contents", [2**16], "UINT16", 1), "has values outside UINT16"),
        (lambda: typed("bytes_contents", [b"a"], "BYTES", 2), "has 1 elements; expected 2"),
        (lambda: raw(bytes(7), "FP32", 2), "output 'x' has 7 bytes; expected 8"),
        (lambda: raw(bytes(4), "FP32", 2**62, 2**62), "has 4 bytes; expected"),
        (lambda: raw(b"\2", "BOOL", 1), "has a byte that is neither 0 nor 1"),
        (lambda: raw(b"\1\0", "BYTES", 1), "ends in the midst of an element"),
        (lambda: raw(b"\2\0\0\0a", "BYTES", 1), "ends in the midst of an element"),
        (lambda: raw(b"\0\0\0\0", "BYTES", 2), "has 1 elements; expected 2"),
        (lambda: raw(bytes(4), "FP32", -1), r"output 'x' has shape \[-1\]"),
        (lambda: raw(b"", "FP32", 0, 2**62, 2**62), r"has shape \[0, 4611686018427387904"),
        (lambda: raw(bytes(4), "FP32", *[1] * 65), r"has shape \[1, 1"),
        (lambda: raw(bytes(4), "float32", 1), "has datatype 'float32'; expected one of BOOL"),
        (lambda: raw(bytes(4), "", 1), "has datatype ''; expected one of BOOL"),
    ],
)
def test_reply_that_breaks_the_protocol_is_named(
    make: Callable[[], Response], message: str
) -> None:
    with pytest.raises(TensorContentError, match=message):
        decode_outputs(make())
