"""An answer as bytes, for a store that other processes share; reading them cannot run code.

    8 bytes    the format and its version
    16         BLAKE2b of all that follows, keyed with the cache's key
    8          when it is good no longer, seconds since 1970, a double
    4          length of the head
    head       JSON: [[name, datatype, [dimension, ...]], ...]
    the rest   the tensors in that order, C-contiguous, little-endian, without gaps

The digest tells what was cut, what was altered, and what was stored for another key; it does not
tell who wrote it: a store that others can write to must be trusted.
"""

import hashlib
import hmac
import json
import struct
from math import isfinite, prod

import numpy as np

from serving.core.cache import Expected
from serving.core.request import Arrays
from serving.core.signature import DTYPES, TensorSpec

MAGIC = b"hpc-ans1"
_DIGEST_BYTES = 16
_FRAME = struct.Struct("<dI")
_BEGIN = len(MAGIC) + _DIGEST_BYTES


class ForeignValueError(ValueError):
    """Bytes that are no answer to this request; the message says why."""


def encode(key: bytes, answer: Arrays, expires: float) -> bytes | None:
    """An answer as bytes; None if it has a tensor of no fixed size, such as one of texts.

    Args:
        key: of the cache, at most 64 bytes.
        answer: by name.
        expires: when it is good no longer, in seconds since 1970.
    """
    head = []
    parts = []
    for name, array in answer.items():
        datatype = _DATATYPES.get(array.dtype)
        if datatype is None:
            return None
        head.append([name, datatype, array.shape])
        parts.append(array.tobytes())
    text = json.dumps(head).encode()
    body = b"".join([_FRAME.pack(expires, len(text)), text, *parts])
    return MAGIC + _digest(key, body) + body


def decode(key: bytes, value: bytes, expected: Expected) -> tuple[dict[str, np.ndarray], float]:
    """What was encoded, and when it is good no longer; the arrays are views of `value`.

    Raises:
        ForeignValueError: it was not encoded for this key, or is not what is expected.
    """
    if not value.startswith(MAGIC):
        raise ForeignValueError("it has another format")
    body = memoryview(value)[_BEGIN:]
    if not hmac.compare_digest(value[len(MAGIC) : _BEGIN], _digest(key, body)):
        raise ForeignValueError("it is damaged, or was stored for another request")
    try:
        expires, head_bytes = _FRAME.unpack_from(body)
        head = json.loads(bytes(body[_FRAME.size : _FRAME.size + head_bytes]))
    except (struct.error, ValueError, RecursionError) as error:
        raise ForeignValueError(f"its head cannot be read: {error}") from error
    if not isfinite(expires):
        raise ForeignValueError("it has no time at which it expires")
    return _tensors(head, body[_FRAME.size + head_bytes :], expected), expires


def _tensors(head: object, content: memoryview, expected: Expected) -> dict[str, np.ndarray]:
    if not isinstance(head, list) or len(head) != len(expected.outputs):
        raise ForeignValueError(f"expected {len(expected.outputs)} tensors, got {head}")
    arrays = {}
    for tensor, spec in zip(head, expected.outputs, strict=True):
        shape = _shape(tensor, spec, expected.batch_size)
        dtype = DTYPES[spec.datatype]
        size_bytes = prod(shape) * dtype.itemsize
        if size_bytes > len(content):
            raise ForeignValueError(f"tensor {spec.name!r} is cut")
        flat = np.frombuffer(content[:size_bytes], np.uint8).view(dtype)
        arrays[spec.name] = flat.reshape(shape)
        content = content[size_bytes:]
    if content:
        raise ForeignValueError(f"{len(content)} bytes are left over")
    return arrays


def _shape(tensor: object, spec: TensorSpec, batch_size: int) -> tuple[int, ...]:
    """The shape of a tensor in the head, if all that the head says of it fits the signature."""
    match tensor:
        case [spec.name, spec.datatype, list(shape)] if len(shape) == len(spec.shape):
            wanted = (batch_size, *spec.shape[1:])
            if all(
                type(size) is int and _fits(size, limit, spec.follows != "" and axis == 1)
                for axis, (size, limit) in enumerate(zip(shape, wanted, strict=True))
            ):
                return tuple(shape)
    raise ForeignValueError(f"expected {spec} of {batch_size} examples, got {tensor}")


def _fits(size: int, wanted: int, may_be_shorter: bool) -> bool:
    if wanted == -1:
        return size >= 0
    return 0 <= size <= wanted if may_be_shorter else size == wanted


def _digest(key: bytes, body: bytes | memoryview) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES, key=key).digest()


_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
