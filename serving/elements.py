"""The values of one Open Inference Protocol tensor, in either of its two wire forms, to numpy.

A tensor is raw, little-endian bytes beside the message, or typed, a repeated field inside it. What
is read here came from the network, so sizes are compared before memory is allocated.

Reference: https://github.com/kserve/open-inference-protocol, "Tensor Data".
"""

from collections.abc import Sequence

import numpy as np
from inference import grpc_service_pb2 as oip

from serving.errors import TensorContentError
from serving.signature import DTYPES

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


def from_raw(where: str, datatype: str, content: bytes, num_elements: int) -> np.ndarray:
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
        raise TensorContentError(f"{where} has {len(content)} bytes; its shape makes {num_bytes}")
    array = np.frombuffer(content, dtype)
    if datatype == "BOOL" and (array.view(np.uint8) > 1).any():
        raise TensorContentError(f"{where} has a byte that is neither 0 nor 1")
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
        raise TensorContentError(f"{where}: {datatype} exists in raw form only")
    for other, _ in contents.ListFields():
        if other.name != field:
            raise TensorContentError(f"{where} has {other.name}; {datatype} belongs in {field}")
    values = getattr(contents, field)
    if datatype == BYTES:
        return _byte_strings(where, values, num_elements)
    _check_count(where, len(values), num_elements)
    dtype = DTYPES[datatype]
    # 8 and 16 bit integers travel in fields of 32 bits, so a value may not fit its datatype.
    if values and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not limits.min <= min(values) <= max(values) <= limits.max:
            raise TensorContentError(f"{where} has values outside {datatype}")
    return np.array(values, dtype)


def _split_bytes(where: str, content: bytes) -> list[bytes]:
    """Byte strings that follow each other, each after its length in four bytes."""
    strings, start = [], 0
    while start < len(content):
        prefix = content[start : start + _BYTES_PREFIX]
        end = start + _BYTES_PREFIX + int.from_bytes(prefix, "little")
        if len(prefix) < _BYTES_PREFIX or end > len(content):
            raise TensorContentError(f"{where} ends in the midst of an element")
        strings.append(content[start + _BYTES_PREFIX : end])
        start = end
    return strings


def _byte_strings(where: str, strings: Sequence[bytes], num_elements: int) -> np.ndarray:
    _check_count(where, len(strings), num_elements)
    array = np.empty(num_elements, object)
    array[:] = strings
    return array


def _check_count(where: str, count: int, num_elements: int) -> None:
    if count != num_elements:
        raise TensorContentError(f"{where} has {count} elements; its shape makes {num_elements}")
