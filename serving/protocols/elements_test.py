"""Both wire forms of every datatype are read as the protocol writes them, and nothing else is."""

import struct
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference import grpc_service_pb2 as oip

from serving.core.signature import DTYPES
from serving.protocols.elements import (
    CONTENTS_FIELDS,
    TensorContentError,
    from_contents,
    from_raw,
)

WHERE = "input 'x'"

# How the protocol writes each datatype, in the letters of `struct`, which knows no BF16.
FORMATS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}

Contents = oip.InferTensorContents


def values_of(datatype: str) -> list[float]:
    dtype = DTYPES[datatype]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return [limits.min, 0, 1, limits.max]
    return [0, 1] if datatype == "BOOL" else [-1.5, 0.0, 0.25, 3.0]


@pytest.mark.parametrize("datatype", FORMATS)
@pytest.mark.parametrize("wrap", [bytes, memoryview])
def test_raw_elements(datatype: str, wrap: Callable[[bytes], bytes | memoryview]) -> None:
    values = values_of(datatype)
    content = struct.pack(f"<{len(values)}{FORMATS[datatype]}", *values)
    array = from_raw(WHERE, datatype, wrap(content), len(values))
    assert array.tolist() == values
    assert array.dtype == DTYPES[datatype]
    assert not array.flags.writeable
    assert np.shares_memory(array, np.frombuffer(content, np.uint8))


def test_raw_bfloat16_is_the_upper_half_of_a_float() -> None:
    halves = [struct.pack("<f", value)[2:] for value in (-1.5, 0.25, 3.0)]
    array = from_raw(WHERE, "BF16", b"".join(halves), 3)
    assert array.tolist() == [-1.5, 0.25, 3.0]
    assert array.dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("datatype", [d for d in CONTENTS_FIELDS if d != "BYTES"])
def test_typed_elements(datatype: str) -> None:
    values = values_of(datatype)
    contents = Contents()
    getattr(contents, CONTENTS_FIELDS[datatype]).extend(values)
    array = from_contents(WHERE, datatype, contents, len(values))
    assert array.tolist() == values
    assert array.dtype == DTYPES[datatype]


@given(strings=st.lists(st.binary(max_size=20), max_size=5))
def test_byte_strings(strings: list[bytes]) -> None:
    raw = b"".join(struct.pack("<I", len(string)) + string for string in strings)
    for content in (raw, memoryview(raw)):
        assert from_raw(WHERE, "BYTES", content, len(strings)).tolist() == strings
    typed = from_contents(WHERE, "BYTES", Contents(bytes_contents=strings), len(strings))
    assert typed.tolist() == strings


@pytest.mark.parametrize(
    ("datatype", "content", "num_elements", "message"),
    [
        ("FP32", bytes(7), 2, "input 'x' has 7 bytes; expected 8 for its shape"),
        ("FP32", bytes(4), 2**124, f"has 4 bytes; expected {2**126} for its shape"),
        ("BF16", bytes(3), 1, "input 'x' has 3 bytes; expected 2 for its shape"),
        ("BOOL", b"\2", 1, "has a byte that is neither 0 nor 1; expected BOOL"),
        ("BYTES", b"\1\0", 1, "input 'x' ends in the midst of an element; expected each after"),
        ("BYTES", b"\2\0\0\0a", 1, "input 'x' ends in the midst of an element"),
        ("BYTES", b"\xff\xff\xff\xffa", 1, "input 'x' ends in the midst of an element"),
        ("BYTES", bytes(4), 2, "input 'x' has 1 elements; expected 2 for its shape"),
        ("BYTES", bytes(8), 1, "input 'x' has 2 elements; expected 1 for its shape"),
        ("BYTES", b"", 2**62, f"input 'x' has 0 elements; expected {2**62} for its shape"),
    ],
)
def test_raw_elements_that_do_not_fit(
    datatype: str, content: bytes, num_elements: int, message: str
) -> None:
    with pytest.raises(TensorContentError) as error:
        from_raw(WHERE, datatype, content, num_elements)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("datatype", "contents", "num_elements", "message"),
    [
        ("FP32", Contents(), 2, "input 'x' has 0 elements; expected 2 for its shape"),
        ("FP32", Contents(fp32_contents=[1]), 2**124, f"has 1 elements; expected {2**124}"),
        ("FP32", Contents(fp64_contents=[1]), 1, "has fp64_contents; expected fp32_contents for"),
        (
            "FP32",
            Contents(fp32_contents=[1], bytes_contents=[b""]),
            1,
            "has bytes_contents; expected fp32_contents for FP32",
        ),
        ("FP16", Contents(fp32_contents=[1]), 1, "FP16 exists in raw form only; expected raw"),
        ("BF16", Contents(), 0, "BF16 exists in raw form only; expected raw contents"),
        ("INT8", Contents(int_contents=[-129]), 1, "outside INT8; expected -128 to 127"),
        ("INT16", Contents(int_contents=[0, 2**15]), 2, "outside INT16; expected -32768 to 32767"),
        ("UINT8", Contents(uint_contents=[256, 0]), 2, "outside UINT8; expected 0 to 255"),
        ("UINT16", Contents(uint_contents=[2**16]), 1, "outside UINT16; expected 0 to 65535"),
        ("BYTES", Contents(bytes_contents=[b"a"]), 2, "has 1 elements; expected 2 for its shape"),
    ],
)
def test_typed_elements_that_do_not_fit(
    datatype: str, contents: Contents, num_elements: int, message: str
) -> None:
    with pytest.raises(TensorContentError) as error:
        from_contents(WHERE, datatype, contents, num_elements)
    assert message in str(error.value)
