"""The harness: results in order, errors with their rank, no process left behind."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from comm.testing import ranks


def _sum(rank: int, world_size: int, scale: float) -> tuple[float, str]:
    x = torch.full([10], scale * rank)
    torch.distributed.all_reduce(x)
    return x[0].item(), os.environ["FLAVOUR"]


def test_returns_what_each_rank_returned() -> None:
    got = ranks.run(_sum, 4, 0.5, env={"FLAVOUR": "sour"})
    assert got == [(3.0, "sour")] * 4


def _fail(rank: int, world_size: int) -> int:
    if rank == 1:
        raise KeyError("no such thing")
    if rank == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def test_names_the_ranks_that_failed() -> None:
    with pytest.raises(ranks.RanksError) as error:
        ranks.run(_fail, 3)
    assert "no such thing" in str(error.value)
    assert "rank 2: killed by signal 9" in str(error.value)


def _sleep(rank: int, world_size: int, folder: Path) -> None:
    (folder / str(rank)).write_text(str(os.getpid()))
    time.sleep(1000)


def test_ends_what_does_not_end(tmp_path: Path) -> None:
    ended = ranks.outcomes(_sleep, 2, tmp_path, timeout_s=5.0)
    for rank, outcome in enumerate(ended):
        assert "did not end within" in outcome.error
        pid = int((tmp_path / str(rank)).read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
