"""What a process keeps on a disk goes when it ends, or when the next one begins."""

import multiprocessing
import os
import signal
from contextlib import ExitStack
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from train.backends.nvme.scratch import scratch_directory


def _be_killed(parent: Path) -> None:
    with scratch_directory(parent) as directory:
        (directory / "weights").write_bytes(b"1")
        os.kill(os.getpid(), signal.SIGKILL)


def test_is_removed_in_the_end_whatever_happens(tmp_path: Path) -> None:
    with ExitStack() as stack:
        directory = stack.enter_context(scratch_directory(tmp_path))
        (directory / "folder").mkdir()
        (directory / "folder" / "weights").write_bytes(b"1")
        stack.push(lambda *_: True)  # not to be raised any further
        raise KeyError
    assert [*tmp_path.iterdir()] == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    killed = multiprocessing.get_context("spawn").Process(target=_be_killed, args=(tmp_path,))
    killed.start()
    killed.join()
    left = [*tmp_path.iterdir()]
    assert killed.exitcode == -signal.SIGKILL
    assert len(left) == 1
    with scratch_directory(tmp_path) as directory:
        assert [*tmp_path.iterdir()] == [directory]


def test_what_was_left_before_it_was_locked_is_removed(tmp_path: Path) -> None:
    (tmp_path / "hpc-offload-left").mkdir()
    with scratch_directory(tmp_path) as directory:
        assert [*tmp_path.iterdir()] == [directory]


def _hold(parent: Path, barrier: Barrier) -> None:
    for _ in range(20):
        barrier.wait()
        with scratch_directory(parent) as directory:
            barrier.wait()
            assert (directory / "lock").exists()
            barrier.wait()


def test_ranks_that_begin_together_leave_each_other_theirs(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4, timeout=60)
    ranks = [context.Process(target=_hold, args=(tmp_path, barrier)) for _ in range(4)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0] * 4


def test_what_another_process_uses_stays(tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    with scratch_directory(tmp_path) as first, scratch_directory(tmp_path) as second:
        assert first != second
        assert first.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["others"]


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"), scratch_directory(tmp_path / "absent"):
        pass
