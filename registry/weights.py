"""Weights in the safetensors format: written without a second copy, read as views of a buffer.

A file is the length of its header (8 bytes, little-endian), the header (a JSON object with dtype,
shape and offsets of each tensor, padded with spaces to 8 bytes), and the tensors without a gap.
What is written is, bit for bit, what the `safetensors` library writes; what is read is checked more
strictly than there, since a header comes from whoever made the file. The library itself has no
bfloat16 and no float8 for NumPy, and copies every tensor.

Reference: https://github.com/huggingface/safetensors, README.md, "Format".
"""

import json
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import ml_dtypes
import numpy as np

from registry.errors import ArtifactError

# By the format's name, in the order in which the library stores tensors: by falling size, so that
# each one is aligned where the buffer is.
DTYPES: dict[str, np.dtype] = {
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype("<f2"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAME_OF = {dtype.name: name for name, dtype in DTYPES.items()}
_ORDER = {name: index for index, name in enumerate(DTYPES)}

# The limit of the library: what is larger no other program reads.
MAX_HEADER_BYTES = 100_000_000

_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8
_MAX_DIMENSIONS = 64  # of NumPy
_MAX_SIZE = 2**63 - 1
_MAX_DIGITS = 20  # of 2**64 - 1

# The header's key for text about the file.
_METADATA = "__metadata__"
_KEYS = {"dtype", "shape", "data_offsets"}

_CHUNK_BYTES = 8 * 2**20
_MAX_SHOWN = 64  # characters of a name in an error


class FormatError(ArtifactError):
    """Bytes that are not safetensors, and why."""


class _Entry(NamedTuple):
    """A tensor of a header; `end` - `begin` is the size of `shape` in `dtype`, in bytes."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def write_tensors(write: Callable[[memoryview], object], tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors in the safetensors format, of the same bytes for the same tensors.

    Args:
        write: Takes the next bytes of the file, at most 8 MiB at once.
        tensors: By name, of any memory layout and byte order. Of one that is not contiguous and
            little-endian a copy is made while it is written.

    Raises:
        ArtifactError: There are none, or a name, a dtype or the header cannot be stored; nothing
            was written.
    """
    if not tensors:
        raise ArtifactError("there are no tensors to publish; pass the model's weights")
    for name, tensor in tensors.items():
        _check_tensor(name, tensor)
    order = sorted(tensors, key=lambda name: (_ORDER[_NAME_OF[tensors[name].dtype.name]], name))
    write(memoryview(_header(order, tensors)))
    for name in order:
        content = _little_endian_bytes(tensors[name]).data
        for begin in range(0, len(content), _CHUNK_BYTES):
            write(content[begin : begin + _CHUNK_BYTES])


def _check_tensor(name: str, tensor: np.ndarray) -> None:
    """Refuses what could not be read back the same."""
    if not isinstance(name, str):
        raise ArtifactError(f"tensor name {name!r} is a {type(name).__name__}; expected a string")
    shown = _shown(name)
    if name == _METADATA:
        raise ArtifactError(f"tensor {shown}: safetensors reserves that name; choose another")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ArtifactError(
            f"tensor {shown}: the name is not UTF-8 text ({error.reason}); choose another"
        ) from error
    # A mask would be lost.
    if not isinstance(tensor, np.ndarray) or isinstance(tensor, np.ma.MaskedArray):
        raise ArtifactError(
            f"tensor {shown} is a {type(tensor).__module__}.{type(tensor).__qualname__}; "
            "expected a numpy array"
        )
    if tensor.dtype.name not in _NAME_OF:
        raise ArtifactError(f"tensor {shown} is {tensor.dtype}; expected one of {sorted(_NAME_OF)}")


def _header(order: list[str], tensors: Mapping[str, np.ndarray]) -> bytes:
    entries, begin = {}, 0
    for name in order:
        tensor = tensors[name]
        end = begin + tensor.nbytes
        entries[name] = {
            "dtype": _NAME_OF[tensor.dtype.name],
            "shape": tensor.shape,
            "data_offsets": (begin, end),
        }
        begin = end
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise ArtifactError(
            f"the tensors cannot be stored: their header takes {len(text):,} bytes, the format "
            f"allows {MAX_HEADER_BYTES:,}; shorten their names"
        )
    return _LENGTH.pack(len(text)) + text


def _little_endian_bytes(tensor: np.ndarray) -> np.ndarray:
    """The tensor's bytes in row-major order; a copy only if they do not lie in memory like that."""
    little = np.asarray(tensor, DTYPES[_NAME_OF[tensor.dtype.name]], order="C")
    return little.reshape(-1).view(np.uint8)


def views_of(buffer: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the tensors of a safetensors file as views of its bytes.

    Args:
        buffer: The whole file, uint8 of shape [size]. What may be written to it may be written to
            the tensors, and each keeps it alive.

    Returns:
        The tensors by name, in the order of the file. One that lies at an address that its dtype
        does not want, which no file of the library has, is a copy.

    Raises:
        FormatError: A rule of the format is broken: a header that is too long, not UTF-8, not JSON
            or with a name twice; a tensor with other keys, an unknown dtype, a shape that does not
            fit its bytes; bytes that belong to no tensor or to two.
    """
    tensors = {}
    start, entries = _read_header(buffer)
    for name, dtype, shape, begin, end in entries:
        view = buffer[start + begin : start + end]
        if view.ctypes.data % dtype.alignment:
            view = view.copy()
        tensors[name] = view.view(dtype).reshape(shape)
    return tensors


def _read_header(buffer: np.ndarray) -> tuple[int, list[_Entry]]:
    """Returns where the tensors begin, and what lies there, in order and without a gap."""
    if buffer.size < _LENGTH.size:
        raise FormatError(f"it has {buffer.size} bytes, too few for the length of a header")
    (length,) = _LENGTH.unpack(buffer[: _LENGTH.size].tobytes())
    start = _LENGTH.size + length
    if length > MAX_HEADER_BYTES:
        raise FormatError(f"its header is to take {length:,} bytes, at most {MAX_HEADER_BYTES:,}")
    if start > buffer.size:
        raise FormatError(f"its header is to take {length:,} bytes, of {buffer.size:,} in all")
    header = _parse(buffer[_LENGTH.size : start].tobytes())
    _check_metadata(header.pop(_METADATA, {}))
    entries = [_entry(name, fields) for name, fields in header.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    _check_cover(entries, buffer.size - start)
    return start, entries


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FormatError(f"{_METADATA} is not an object of strings")
    for text in (*metadata, *metadata.values()):
        _check_unicode(_METADATA, text)


def _check_unicode(where: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can escape halves of a character
        raise FormatError(f"{where}: {_shown(text)} is no UTF-8 ({error.reason})") from error


def _check_cover(entries: list[_Entry], num_bytes: int) -> None:
    """Checks that each byte belongs to one tensor."""
    reached = 0
    for entry in entries:
        if entry.begin != reached:
            problem = "overlaps another one" if entry.begin < reached else "leaves a gap before it"
            raise FormatError(f"tensor {_shown(entry.name)} {problem}: begins at {entry.begin}")
        reached = entry.end
    if reached != num_bytes:
        raise FormatError(f"its tensors are to take {reached:,} bytes, there are {num_bytes:,}")


def _parse(content: bytes) -> dict[str, Any]:
    if not content.startswith(b"{"):
        raise FormatError("its header is not a JSON object")
    try:
        header: dict[str, Any] = json.loads(
            content.decode(),
            object_pairs_hook=_object_of_unique_keys,
            parse_int=_natural_number,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except UnicodeDecodeError as error:
        raise FormatError(f"its header is not UTF-8: {error.reason}") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise FormatError(f"its header is not JSON: {error}") from error
    return header


def _object_of_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique: dict[str, Any] = {}
    for key, value in pairs:
        if key in unique:
            raise FormatError(f"its header has {_shown(key)} twice")
        unique[key] = value
    return unique


def _natural_number(digits: str) -> int:
    if digits.startswith("-") or len(digits) > _MAX_DIGITS:
        _refuse_number(digits)
    return int(digits)


def _refuse_number(text: str) -> NoReturn:
    raise FormatError(f"its header holds {_shown(text)}; expected whole numbers from 0 to 2**63-1")


def _entry(name: str, fields: object) -> _Entry:
    where = f"tensor {_shown(name)}"
    _check_unicode(where, name)
    if not isinstance(fields, dict) or fields.keys() != _KEYS:
        raise FormatError(f"{where} has not the keys dtype, shape and data_offsets alone")
    kind = fields["dtype"]
    if not isinstance(kind, str) or kind not in DTYPES:
        raise FormatError(f"{where} is of dtype {_shown(kind)}; expected one of {sorted(DTYPES)}")
    shape, offsets = _numbers(where, fields["shape"]), _numbers(where, fields["data_offsets"])
    if len(shape) > _MAX_DIMENSIONS or len(offsets) != 2:
        raise FormatError(f"{where} has {len(shape)} dimensions and {len(offsets)} offsets")
    # NumPy multiplies sizes that are not 0 in 64 bits, also where another one is 0.
    if math.prod(size for size in shape if size) * DTYPES[kind].itemsize > _MAX_SIZE:
        raise FormatError(f"{where} is of shape {list(shape)}, larger than any memory")
    begin, end = offsets
    num_bytes = math.prod(shape) * DTYPES[kind].itemsize
    if end - begin != num_bytes:
        raise FormatError(
            f"{where} lies from {begin} to {end}; {kind} of shape {list(shape)} takes "
            f"{num_bytes:,} bytes"
        )
    return _Entry(name, DTYPES[kind], shape, begin, end)


def _numbers(where: str, value: object) -> tuple[int, ...]:
    # `type`, as True is an int for isinstance.
    if not isinstance(value, list) or not all(type(number) is int for number in value):
        raise FormatError(f"{where}: {_shown(value)} is not a list of whole numbers")
    return tuple(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
