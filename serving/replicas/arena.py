"""Memory that a gateway and a replica share, for tensors too large to go through the socket.

An arena is anonymous memory (memfd) that has one writer, who alone gives out its blocks, and one
reader, who says when a block is of no more use. Nothing of it is on a disk, and it is gone when the
last of the two processes has let it go, however they ended. It cannot be truncated under the
reader, who would be killed by that: seals forbid it.
"""

import fcntl
import mmap
import os
import weakref
from collections.abc import Callable, Sequence

import numpy as np

from serving.replicas.blocks import Blocks
from serving.replicas.errors import FrameError
from serving.replicas.frames import Buffer
from serving.replicas.tensors import ALIGNMENT

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def create_memory(size: int) -> int:
    """Returns the descriptor of new memory of this many bytes, which never changes its size."""
    descriptor = os.memfd_create("hpc-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def check_memory(descriptor: int, size: int) -> None:
    """Raises FrameError unless a descriptor that came is memory as `create_memory` makes it."""
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise FrameError("a descriptor that came for an arena is of no memory") from error
    actual = os.fstat(descriptor).st_size
    if seals & _SEALS != _SEALS or actual != size:
        raise FrameError(f"an arena of {actual} bytes, sealed {seals:#x}; expected {size}, sealed")


class WriterArena:
    """The side that allocates and writes.

    Args:
        descriptor: Of the memory; it may be closed afterwards.
        size: In bytes.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._memory = np.frombuffer(mmap.mmap(descriptor, size), np.uint8)
        self._blocks = Blocks(size)
        self.free = self._blocks.free

    @property
    def used_bytes(self) -> int:
        """How much the reader has not given back."""
        return self._blocks.used_bytes

    def write(self, payload: Sequence[Buffer], size: int) -> int | None:
        """Copies a payload into a block.

        Args:
            payload: Its buffers, in order.
            size: Of all of them, in bytes.

        Returns:
            The block's offset; None if there is no room, or nothing to write.
        """
        if not size:
            return None
        offset = self._blocks.allocate(size)
        if offset is None:
            return None
        at = offset
        for buffer in payload:
            part = np.frombuffer(memoryview(buffer).cast("B"), np.uint8)
            self._memory[at : at + len(part)] = part
            at += len(part)
        return offset


class ReaderArena:
    """The side that reads, and gives blocks back.

    Args:
        descriptor: Of the memory; it may be closed afterwards.
        size: In bytes.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        memory = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
        self._memory = np.frombuffer(memory, np.uint8)
        self._read: dict[int, weakref.ref[np.ndarray]] = {}

    def block(self, offset: int, size: int) -> np.ndarray:
        """Returns the bytes [size] uint8 of a block, read-only, in the arena itself.

        Raises:
            FrameError: No block can be there.
        """
        if not size or offset % ALIGNMENT or offset + size > len(self._memory):
            raise FrameError(
                f"a block of {size} bytes at {offset} in an arena of {len(self._memory)}"
            )
        return self._memory[offset : offset + size]

    def lent(self, offset: int, size: int, give_back: Callable[[int], None]) -> np.ndarray:
        """As `block`, and tells when nobody has the bytes any more, nor a view of them.

        Args:
            offset: Of the block.
            size: Of the block.
            give_back: Called once, with the offset, in whatever thread lets the last view go.

        Raises:
            FrameError: No block can be there, or the last one there is still in use.
        """
        if offset in self._read:
            raise FrameError(f"a block at {offset}, where one is that was not given back")
        # Through a memoryview, so that the views of this block have it as their base, and not the
        # array of the whole arena.
        block = np.frombuffer(self.block(offset, size).data, np.uint8)

        def gone(_: object) -> None:
            del self._read[offset]
            give_back(offset)

        self._read[offset] = weakref.ref(block, gone)
        return block
