"""The values of one Open Inference Protocol tensor, in either of its two wire forms, to numpy.

A tensor is raw, little-endian bytes beside the message, or typed, a repeated field inside it. What
is read here came from the network, so sizes are compared before memory is allocated.

Reference: https://github.com/kserve/open-inference-protocol, "Tensor Data".
"""

from collections.abc import Sequence

import numpy as np
from inference import grpc_service_pb2 as oip

from serving.core.signature import DTYPES

# Byte strings of any length; as an array, Python's bytes in an object array.
BYTES = "BYTES"
_BYTES_PREFIX = 4

# The field of InferTensorContents that holds each datatype; FP16 and BF16 have none.
CONTENTS_FIELDS: dict[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


# What the fields of numbers hold.
_FIELD_DTYPES = {
    "bool_contents": np.dtype("?"),
    "int_contents": np.dtype("<i4"),
    "int64_contents": np.dtype("<i8"),
    "uint_contents": np.dtype("<u4"),
    "uint64_contents": np.dtype("<u8"),
    "fp32_contents": np.dtype("<f4"),
    "fp64_contents": np.dtype("<f8"),
}


class TensorContentError(Exception):
    """Values of a tensor, in a request or a reply, that do not fit its datatype and shape."""


# A whole message, or a part of one or of an array.
Bytes = bytes | memoryview


def from_raw(where: str, datatype: str, content: Bytes, num_elements: int) -> np.ndarray:
    """The elements [num_elements] of a raw tensor; a view of `content`, unless they are BYTES.

    Args:
        where: the tensor, as errors name it: "input 'image'".
        datatype: a key of DTYPES, or BYTES.
        content: its bytes.
        num_elements: the product of its shape.

    Raises:
        TensorContentError: another number of bytes, or a BOOL that is neither 0 nor 1.
    """
    if datatype == BYTES:
        return _byte_strings(where, _split_bytes(where, content), num_elements)
    dtype = DTYPES[datatype]
    num_bytes = num_elements * dtype.itemsize
    if len(content) != num_bytes:
        raise TensorContentError(
            f"{where} has {len(content)} bytes; expected {num_bytes} for its shape"
        )
    array = np.frombuffer(content, dtype)
    if datatype == "BOOL" and (array.view(np.uint8) > 1).any():
        raise TensorContentError(f"{where} has a byte that is neither 0 nor 1; expected BOOL")
    return array


def from_contents(
    where: str, datatype: str, contents: oip.InferTensorContents, num_elements: int
) -> np.ndarray:
    """The elements [num_elements] of a typed tensor, in an array of their own.

    Args:
        where: the tensor, as errors name it.
        datatype: a key of CONTENTS_FIELDS.
        contents: its fields, of which the one for `datatype` alone may hold anything.
        num_elements: the product of its shape.

    Raises:
        TensorContentError: another field, another number of elements, an integer outside its
            datatype, or a datatype that has no field: FP16 and BF16.
    """
    field = CONTENTS_FIELDS.get(datatype)
    if field is None:
        raise TensorContentError(
            f"{where}: {datatype} exists in raw form only; expected raw contents"
        )
    for other, _ in contents.ListFields():
        if other.name != field:
            raise TensorContentError(f"{where} has {other.name}; expected {field} for {datatype}")
    values = getattr(contents, field)
    if datatype == BYTES:
        return _byte_strings(where, values, num_elements)
    _check_count(where, len(values), num_elements)
    # From one value after the other: as a list they would take ten times the memory.
    array = np.fromiter(values, _FIELD_DTYPES[field], num_elements)
    dtype = DTYPES[datatype]
    # 8 and 16 bit integers travel in fields of 32 bits, so a value may not fit its datatype.
    if dtype.itemsize < array.itemsize and num_elements:
        limits = np.iinfo(dtype)
        if not limits.min <= array.min() <= array.max() <= limits.max:
            raise TensorContentError(
                f"{where} has values outside {datatype}; expected {limits.min} to {limits.max}"
            )
    return array.astype(dtype, copy=False)


def _split_bytes(where: str, content: Bytes) -> list[bytes]:
    """Byte strings that follow each other, each after its length in four bytes."""
    strings, start = [], 0
    while start < len(content):
        prefix = content[start : start + _BYTES_PREFIX]
        end = start + _BYTES_PREFIX + int.from_bytes(prefix, "little")
        if len(prefix) < _BYTES_PREFIX or end > len(content):
            raise TensorContentError(
                f"{where} ends in the midst of an element; expected each after its length in "
                f"{_BYTES_PREFIX} bytes"
            )
        strings.append(bytes(content[start + _BYTES_PREFIX : end]))
        start = end
    return strings


def _byte_strings(where: str, strings: Sequence[bytes], num_elements: int) -> np.ndarray:
    _check_count(where, len(strings), num_elements)
    array = np.empty(num_elements, object)
    array[:] = strings
    return array


def _check_count(where: str, count: int, num_elements: int) -> None:
    if count != num_elements:
        raise TensorContentError(
            f"{where} has {count} elements; expected {num_elements} for its shape"
        )
