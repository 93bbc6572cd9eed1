"""Shared memory: what is lent stays as it is until it is let go, whatever the other side does."""

import gc
import os
import tempfile
import threading

import numpy as np
import pytest

from serving.replicas.arena import ReaderArena, WriterArena, check_memory, create_memory
from serving.replicas.errors import FrameError

SIZE = 2**16


@pytest.fixture
def descriptor() -> int:
    created = create_memory(SIZE)
    yield created
    os.close(created)


def test_what_one_writes_the_other_reads(descriptor: int) -> None:
    writer, reader = WriterArena(descriptor, SIZE), ReaderArena(descriptor, SIZE)
    parts = [np.arange(10, dtype=np.int32), np.linspace(0, 1, 7)]
    size = sum(part.nbytes for part in parts)
    offsets = [writer.write([part.data for part in parts], size) for _ in range(3)]
    for offset in offsets:
        assert offset is not None
        block = reader.block(offset, size)
        assert block.tobytes() == b"".join(part.tobytes() for part in parts)
        assert not block.flags.writeable
    assert writer.used_bytes == 3 * 128


def test_without_room_nothing_is_written(descriptor: int) -> None:
    writer = WriterArena(descriptor, SIZE)
    assert writer.write([bytes(SIZE + 1)], SIZE + 1) is None
    first = writer.write([bytes(SIZE)], SIZE)
    assert first == 0
    assert writer.write([b"x"], 1) is None
    assert writer.free(0)
    assert writer.write([b"x"], 1) == 0


@pytest.mark.parametrize(
    "view",
    [
        lambda block: block,
        lambda block: block[10:20],
        lambda block: block.view(np.float32).reshape(4, -1)[1:, ::2],
        lambda block: np.ndarray((2, 8), np.float64, block, 0)[1],
        lambda block: memoryview(block)[3:],
        lambda block: np.asarray(memoryview(block)[3:]),
        lambda block: np.broadcast_to(block[:1], (5,)),
    ],
)
def test_a_block_is_given_back_once_when_no_view_of_it_is_left(
    descriptor: int, view: object
) -> None:
    writer, reader = WriterArena(descriptor, SIZE), ReaderArena(descriptor, SIZE)
    offset = writer.write([np.arange(32, dtype=np.float32).data], 128)
    assert offset is not None
    back: list[int] = []
    held = view(reader.lent(offset, 128, back.append))  # type: ignore[operator]
    before = bytes(np.asarray(held).tobytes())
    gc.collect()
    assert back == []
    assert np.asarray(held).tobytes() == before
    del held
    gc.collect()
    assert back == [offset]


def test_a_block_may_be_let_go_by_any_thread(descriptor: int) -> None:
    reader = ReaderArena(descriptor, SIZE)
    back: list[tuple[int, threading.Thread]] = []
    held = [reader.lent(64, 64, lambda at: back.append((at, threading.current_thread())))]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert back == [(64, thread)]


def test_views_outlive_the_connection(descriptor: int) -> None:
    writer, reader = WriterArena(descriptor, SIZE), ReaderArena(descriptor, SIZE)
    offset = writer.write([bytes(range(100))], 100)
    assert offset is not None
    back: list[int] = []
    held = reader.lent(offset, 100, back.append)[50:]
    del writer, reader
    gc.collect()
    assert held.tobytes() == bytes(range(50, 100))


@pytest.mark.parametrize(
    ("offset", "size"),
    [(1, 64), (SIZE, 1), (0, SIZE + 1), (SIZE - 64, 65), (2**63, 64), (64, 2**63), (0, 0)],
)
def test_blocks_beyond_the_arena_are_refused(descriptor: int, offset: int, size: int) -> None:
    reader = ReaderArena(descriptor, SIZE)
    with pytest.raises(FrameError, match="a block of"):
        reader.block(offset, size)
    with pytest.raises(FrameError, match="a block of"):
        reader.lent(offset, size, lambda _: None)


def test_a_block_that_is_in_use_is_not_lent_again(descriptor: int) -> None:
    reader = ReaderArena(descriptor, SIZE)
    back: list[int] = []
    held = reader.lent(64, 64, back.append)
    with pytest.raises(FrameError, match="a block at 64, where one is"):
        reader.lent(64, 64, back.append)
    del held
    reader.lent(64, 64, back.append)
    assert back == [64, 64]


def test_its_size_is_for_ever(descriptor: int) -> None:
    for size in (0, SIZE - 1, SIZE + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)
    check_memory(descriptor, SIZE)


def test_what_is_no_such_memory_is_refused(descriptor: int) -> None:
    with pytest.raises(FrameError, match="an arena of 65536 bytes"):
        check_memory(descriptor, SIZE + 1)
    with tempfile.TemporaryFile() as file, pytest.raises(FrameError):
        check_memory(file.fileno(), 0)
    unsealed = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, SIZE)
    with pytest.raises(FrameError, match="expected 65536, sealed"):
        check_memory(unsealed, SIZE)
    os.close(unsealed)
