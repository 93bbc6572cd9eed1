"""Frames: how a message of proto/hpc/serving/v1/transport.proto and its payload become bytes.

Sizes are checked before anything is allocated, and nothing is unpickled: a payload is the values of
tensors (tensors.py) and a header is a protocol buffer.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from hpc.serving.v1 import transport_pb2 as wire

from serving.replicas.errors import FrameError

# What a socket takes; views are C-contiguous.
Buffer = bytes | memoryview

# Magic, kind, size of the header, size of the payload.
PREFIX = struct.Struct("<4sB3xI4xQ")
MAGIC = b"HPCR"

# Names and shapes of a thousand tensors.
MAX_HEADER_BYTES = 2**16

_KINDS = frozenset(wire.FrameKind.values()) - {wire.FRAME_KIND_UNSPECIFIED}

M = TypeVar("M", bound=Message)


def encode_frame(
    kind: int, header: Message, payload: Iterable[Buffer] = (), payload_bytes: int = 0
) -> list[Buffer]:
    """Returns a frame as buffers to be written one after the other; the payload is not copied.

    Args:
        kind: A number of `FrameKind`.
        header: The message of this kind.
        payload: Buffers that have `payload_bytes` bytes together.
        payload_bytes: Of all of them.

    Raises:
        ValueError: The header is too large: names, or a number of tensors, beyond all reason.
    """
    encoded = header.SerializeToString()
    if len(encoded) > MAX_HEADER_BYTES:
        raise ValueError(
            f"the header of a frame takes {len(encoded)} bytes; at most {MAX_HEADER_BYTES} are sent"
        )
    return [PREFIX.pack(MAGIC, kind, len(encoded), payload_bytes) + encoded, *payload]


def decode_prefix(
    buffer: bytes | bytearray | memoryview, offset: int, max_payload_bytes: int
) -> tuple[int, int, int]:
    """Reads how a frame begins.

    Args:
        buffer: Has at least `PREFIX.size` bytes from `offset` on.
        offset: Where the frame begins.
        max_payload_bytes: More than that is refused.

    Returns:
        Its kind, the size of its header and the size of its payload, in bytes.

    Raises:
        FrameError: It is no frame, or a part is too large.
    """
    magic, kind, header_bytes, payload_bytes = PREFIX.unpack_from(buffer, offset)
    if magic != MAGIC:
        raise FrameError(f"expected a frame, which begins with {MAGIC!r}, got {magic!r}")
    if kind not in _KINDS:
        raise FrameError(f"a frame of kind {kind}, which this version does not have")
    if header_bytes > MAX_HEADER_BYTES:
        raise FrameError(f"a header of {header_bytes} bytes; at most {MAX_HEADER_BYTES} are read")
    if payload_bytes > max_payload_bytes:
        raise FrameError(
            f"a payload of {payload_bytes} bytes; at most {max_payload_bytes} are read"
        )
    return kind, header_bytes, payload_bytes


def decode_header(kind: type[M], header: bytes) -> M:
    """Reads the header of a frame.

    Raises:
        FrameError: It is not this message.
    """
    try:
        return kind.FromString(header)
    except DecodeError as error:
        raise FrameError(f"the header is no {kind.DESCRIPTOR.name}") from error


def size_of(buffers: Sequence[Buffer]) -> int:
    """Returns how many bytes these buffers have together."""
    return sum(len(b) if isinstance(b, bytes) else b.nbytes for b in buffers)
