"""Bytes from the network to messages, without copies of what is large and without surprises.

gRPC hands each request over as the bytes that came. A request for inference is nearly all raw
contents; protobuf would copy these twice. So a large one is taken apart first, along the fields of
its outermost message: the raw contents stay where they are, as views, and protobuf reads the rest.
By the rules of the wire format that is the same message, for fields may be in any order and those
of different numbers do not touch each other.

Reference: https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message
from inference import grpc_service_pb2 as oip

from serving.core.errors import Kind, ServingError, invalid
from serving.protocols.elements import Bytes

# Below this, to take a message apart costs more than to copy it.
_LARGE = 64 * 1024

# Of messages that carry no tensors.
MAX_SMALL_BYTES = 64 * 1024

# Of a request without its raw contents: its names, shapes, parameters and typed contents. Two bytes
# of it can make an element of 16 bytes, so this bounds what it takes to read it.
MAX_TYPED_BYTES = 16 * 1024 * 1024

# Of the outermost message. Two bytes can make an empty input, which takes a hundred.
MAX_FIELDS = 4096

# Wire types.
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

_RAW_TAG = oip.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | _LENGTH

_MAX_VARINT_BYTES = 10

M = TypeVar("M", bound=Message)


class Received(NamedTuple):
    """A request for inference as it came.

    Attributes:
        message: All of it but the raw contents.
        raw: The raw contents, in order.
        size_bytes: What both hold in memory.
    """

    message: oip.ModelInferRequest
    raw: Sequence[Bytes]
    size_bytes: int


class RawSpan(NamedTuple):
    """A raw content within the bytes of a request.

    Attributes:
        start: Of its field.
        content: Where its own bytes begin.
        end: Where they end.
    """

    start: int
    content: int
    end: int


class NotTakenApartError(Exception):
    """Something in the outermost message is for protobuf to judge."""


def read_message(kind: type[M], data: bytes) -> M:
    """A message of a method that carries no tensors.

    Raises:
        ServingError: INVALID: it is no such message, or larger than any needs to be.
    """
    if len(data) > MAX_SMALL_BYTES:
        name = kind.DESCRIPTOR.full_name
        raise invalid(f"{name} has {len(data)} bytes; expected at most {MAX_SMALL_BYTES}")
    return _parse(kind, data)


def read_infer_request(data: bytes) -> Received:
    """A request for inference. Its large raw contents are views of `data`.

    Raises:
        ServingError: INVALID: it is no such message; TOO_LARGE: apart from its raw contents it is
            larger than can be read within bounds.
    """
    if len(data) <= _LARGE:
        message = _parse(oip.ModelInferRequest, data)
        return Received(message, message.raw_input_contents, len(data))
    try:
        rest, raw = _take_apart(data)
        held = len(data) + len(rest)
    except NotTakenApartError:
        rest, raw, held = data, None, 3 * len(data)
    if len(rest) > MAX_TYPED_BYTES:
        raise ServingError(
            Kind.TOO_LARGE,
            f"the request has {len(rest)} bytes beside raw_input_contents; expected at most "
            f"{MAX_TYPED_BYTES}: send large tensors as raw_input_contents",
        )
    message = _parse(oip.ModelInferRequest, rest)
    return Received(message, message.raw_input_contents if raw is None else raw, held)


def _parse(kind: type[M], data: bytes) -> M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        reason = str(error).rpartition(": ")[2]
        raise invalid(f"the request is no {kind.DESCRIPTOR.full_name}: {reason}") from error


def raw_spans(data: bytes) -> list[RawSpan]:
    """Where the raw contents of a request for inference are.

    Raises:
        ServingError: INVALID: it has too many fields.
        NotTakenApartError: It is malformed, or has groups.
    """
    spans = []
    position = fields = 0
    while position < len(data):
        fields += 1
        if fields > MAX_FIELDS:
            raise invalid(f"the request has too many fields; expected at most {MAX_FIELDS}")
        start = position
        tag, position = _varint(data, position)
        if tag & 7 == _LENGTH:
            length, content = _varint(data, position)
            end = content + length
            if tag == _RAW_TAG:
                _check_canonical(data, start, position, content)
                spans.append(RawSpan(start, content, end))
        else:
            end = _end_of_scalar(data, position, tag & 7)
        if end > len(data):
            raise NotTakenApartError
        position = end
    return spans


def _take_apart(data: bytes) -> tuple[bytes, list[memoryview]]:
    """The message without its raw contents, and these.

    Raises:
        ServingError, NotTakenApartError: As of `raw_spans`.
    """
    view = memoryview(data)
    kept, kept_from = [], 0
    spans = raw_spans(data)
    for span in spans:
        kept.append(view[kept_from : span.start])
        kept_from = span.end
    kept.append(view[kept_from:])
    return b"".join(kept), [view[span.content : span.end] for span in spans]


def _check_canonical(data: bytes, tag: int, length: int, content: int) -> None:
    """Numbers may have needless bytes; which of those a parser takes is for protobuf to say."""
    if length - tag > 1 or (content - length > 1 and data[content - 1] == 0):
        raise NotTakenApartError


def _end_of_scalar(data: bytes, position: int, wire_type: int) -> int:
    """Where a field ends that is none of the protocol's, whose fields all have a length."""
    if wire_type == _VARINT:
        return _varint(data, position)[1]
    if wire_type == _FIXED64:
        return position + 8
    if wire_type == _FIXED32:
        return position + 4
    raise NotTakenApartError


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if position + index >= len(data):
            break
        byte = data[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise NotTakenApartError
