"""Frames: in whatever pieces they come they are the same, and what is none is refused."""

import struct
from collections.abc import Iterator

import numpy as np
import pytest
from google.protobuf.message import Message
from hpc.serving.v1 import transport_pb2 as wire

from serving.replicas import receiving
from serving.replicas.errors import FrameError
from serving.replicas.frames import (
    MAX_HEADER_BYTES,
    PREFIX,
    Buffer,
    decode_header,
    decode_prefix,
    encode_frame,
)
from serving.replicas.receiving import LARGE_BYTES, Frame, FrameReader
from serving.replicas.tensors import views

MAX_PAYLOAD_BYTES = 2**20

SIZES = (0, 1, 1000, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, 300_000, MAX_PAYLOAD_BYTES)


def frame(payload: bytes, kind: int = wire.FRAME_KIND_RUN, **fields: object) -> bytes:
    """A frame as one piece."""
    message = wire.Run(**fields) if fields else wire.Run(job=len(payload))
    buffers: list[Buffer] = [payload] if payload else []
    return b"".join(encode_frame(kind, message, buffers, len(payload)))


def read(stream: bytes, pieces: Iterator[int]) -> list[Frame]:
    """What a reader makes of a stream, of which it gets at most so many bytes at a time."""
    reader, frames, rest = FrameReader(MAX_PAYLOAD_BYTES), [], memoryview(stream)
    while rest:
        space = reader.space()
        count = min(len(space), len(rest), next(pieces))
        space[:count] = rest[:count]
        frames += reader.received(count)
        rest = rest[count:]
    return frames


def test_a_frame_is_as_the_contract_says() -> None:
    message = wire.Cancel(job=5)
    assert b"".join(encode_frame(wire.FRAME_KIND_CANCEL, message)) == (
        b"HPCR" + b"\x05\0\0\0" + b"\x02\0\0\0" + bytes(4) + bytes(8) + b"\x08\x05"
    )


@pytest.mark.parametrize("seed", range(20))
def test_frames_are_the_same_in_whatever_pieces_they_come(seed: int) -> None:
    rng = np.random.default_rng(seed)
    payloads = [rng.bytes(size) for size in rng.permutation(SIZES)]
    stream = b"".join(map(frame, payloads))
    largest = int(10 ** rng.uniform(2, 6))
    frames = read(stream, iter(lambda: int(rng.integers(1, largest + 1)), None))
    assert [bytes(f.payload) for f in frames] == payloads
    jobs = [decode_header(wire.Run, f.header).job for f in frames]
    assert jobs == [len(payload) for payload in payloads]


def test_a_byte_at_a_time() -> None:
    payloads = [b"", b"x", bytes(range(256)) * 4]
    frames = read(b"".join(map(frame, payloads)), iter(lambda: 1, None))
    assert [bytes(f.payload) for f in frames] == payloads


def test_large_payloads_have_memory_of_their_own_that_xla_takes_as_it_is() -> None:
    payload = bytes(300_000)
    one, two = read(2 * frame(payload), iter(lambda: 2**16, None))
    assert isinstance(one.payload, np.ndarray)
    assert isinstance(two.payload, np.ndarray)
    assert one.payload.ctypes.data % 64 == 0
    assert not np.shares_memory(one.payload, two.payload)


def prefix(
    magic: bytes = b"HPCR", kind: int = 3, header_bytes: int = 0, payload_bytes: int = 0
) -> bytes:
    return struct.pack("<4sB3xI4xQ", magic, kind, header_bytes, payload_bytes)


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (prefix(magic=b"GET "), r"begins with b'HPCR', got b'GET '"),
        (prefix(kind=0), "a frame of kind 0, which"),
        (prefix(kind=9), "a frame of kind 9, which"),
        (prefix(header_bytes=MAX_HEADER_BYTES + 1), "a header of 65537 bytes; at most 65536"),
        (prefix(header_bytes=2**32 - 1), "a header of 4294967295 bytes"),
        (prefix(payload_bytes=MAX_PAYLOAD_BYTES + 1), "a payload of 1048577 bytes; at most"),
        (prefix(payload_bytes=2**64 - 1), "a payload of 18446744073709551615 bytes"),
    ],
)
def test_what_is_none_is_refused_before_memory_is_taken(
    begin: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(size: int) -> np.ndarray:
        raise AssertionError(f"{size} bytes were to be taken")

    monkeypatch.setattr(receiving, "_aligned", taken)
    with pytest.raises(FrameError, match=message):
        read(begin, iter(lambda: 100, None))
    with pytest.raises(FrameError, match=message):
        decode_prefix(begin, 0, MAX_PAYLOAD_BYTES)


def test_a_header_of_another_message_is_refused() -> None:
    with pytest.raises(FrameError, match="the header is no Run"):
        decode_header(wire.Run, b"\xff\xff\xff")


def test_a_header_beyond_all_reason_is_not_sent() -> None:
    with pytest.raises(ValueError, match="the header of a frame takes 70"):
        encode_frame(wire.FRAME_KIND_RUN, wire.Run(outputs=["x" * 70_000]))


def test_malformed_frames_raise_nothing_else() -> None:
    """A frame that is right, changed at random places, a thousand times."""
    values = np.arange(24, dtype=np.float32)
    run = wire.Run(job=1, outputs=["y"], timeout_s=1)
    run.inputs.add(name="a", datatype="FP32", shape=[2, 8])
    run.inputs.add(name="b", datatype="FP32", shape=[8])
    good = b"".join(encode_frame(wire.FRAME_KIND_RUN, run, [values.tobytes()], values.nbytes))
    rng = np.random.default_rng(0)
    outcomes = {_outcome(_changed(good, rng)) for _ in range(1000)}
    assert outcomes == {"refused", "incomplete", "a frame", "a frame of other tensors"}
    assert _outcome(good) == "a frame"


def _changed(good: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(good)
    # Most of them where something is described, and not in the values.
    described = len(good) - 96
    for _ in range(rng.integers(1, 4)):
        place = rng.integers(described) if rng.random() < 0.9 else rng.integers(len(good))
        changed[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])
    return bytes(changed)


def _outcome(stream: bytes) -> str:
    try:
        frames = read(stream, iter(lambda: 50, None))
        if not frames:
            return "incomplete"
        run: Message = decode_header(wire.Run, frames[0].header)
        assert isinstance(run, wire.Run)
        tensors = views(run.inputs, frames[0].payload, len(frames[0].payload))
    except FrameError as error:
        return "refused" if "\n" not in str(error) else f"refused in several lines: {error}"
    shapes = {name: array.shape for name, array in tensors.items()}
    return "a frame" if shapes == {"a": (2, 8), "b": (8,)} else "a frame of other tensors"


def test_the_prefix_has_the_size_that_the_contract_says() -> None:
    assert PREFIX.size == 24
