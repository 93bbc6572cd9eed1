"""Bytes that come in pieces, as a socket gives them, to frames. Knows no socket."""

from typing import NamedTuple

import numpy as np

from serving.replicas.frames import MAX_HEADER_BYTES, PREFIX, decode_prefix
from serving.replicas.tensors import ALIGNMENT

# A payload larger than that goes from the socket straight to where it stays. A smaller one is read
# together with what surrounds it, one call of the system where there would be three, and copied.
LARGE_BYTES = 2**15

_BUFFER_BYTES = 2**18


class Frame(NamedTuple):
    """One frame. Nobody else has the payload's memory."""

    kind: int
    header: bytes
    payload: bytes | np.ndarray


class FrameReader:
    """Takes what a connection brings, and gives frames.

    `space` is where the next bytes are to be put; `received` says how many were.

    Args:
        max_payload_bytes: A frame with more is refused, before memory is taken for it.
    """

    def __init__(self, max_payload_bytes: int) -> None:
        self._max_payload_bytes = max_payload_bytes
        self._buffer = memoryview(bytearray(max(_BUFFER_BYTES, MAX_HEADER_BYTES + 2 * LARGE_BYTES)))
        self._start = self._end = 0
        # A frame whose payload is being received in its own memory, and how much of it is there.
        self._large: Frame | None = None
        self._rest = self._buffer[:0]

    def space(self) -> memoryview:
        """Returns memory for the next bytes, at least one."""
        return self._rest if self._large is not None else self._buffer[self._end :]

    def received(self, count: int) -> list[Frame]:
        """Returns the frames that are complete now that `count` more bytes are in `space`.

        Raises:
            FrameError: What came is no frame, or too large a one.
        """
        if self._large is not None:
            self._rest = self._rest[count:]
            if self._rest:
                return []
            large, self._large = self._large, None
            return [large]
        self._end += count
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        self._compact()
        return frames

    def _next(self) -> Frame | None:
        """The next frame, if all of it is in the buffer."""
        header_at = self._start + PREFIX.size
        if header_at > self._end:
            return None
        kind, header_bytes, payload_bytes = decode_prefix(
            self._buffer, self._start, self._max_payload_bytes
        )
        payload_at = header_at + header_bytes
        if payload_at > self._end:
            return None
        end = payload_at + payload_bytes
        if end > self._end and payload_bytes <= LARGE_BYTES:
            return None
        header = bytes(self._buffer[header_at:payload_at])
        if end > self._end:
            self._begin_large(kind, header, self._buffer[payload_at : self._end], payload_bytes)
            return None
        self._start = end
        return Frame(kind, header, bytes(self._buffer[payload_at:end]))

    def _begin_large(self, kind: int, header: bytes, begun: memoryview, size: int) -> None:
        payload = _aligned(size)
        memory = payload.data
        memory[: len(begun)] = begun
        self._large, self._rest = Frame(kind, header, payload), memory[len(begun) :]
        self._start = self._end

    def _compact(self) -> None:
        """Moves what is left to the buffer's beginning, where there is space behind it."""
        left = self._end - self._start
        if left and self._start:
            self._buffer[:left] = self._buffer[self._start : self._end]
        self._start, self._end = 0, left


def _aligned(size: int) -> np.ndarray:
    """Memory [size] uint8, not set to anything."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]
