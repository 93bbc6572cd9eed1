"""A rank that dies or stalls in the middle of a collective is an error on the others, soon."""

import os
import signal
import threading
import time

import pytest
import torch

from comm.compression import Compression
from comm.testing import ranks
from comm.torch import collectives
from comm.torch.ddp import CompressionHook, compressed_hook

_GROUP_TIMEOUT_S = 8.0

# Beyond the group's timeout: starting processes and importing, on a machine with other work.
_SLACK_S = 240.0

_VICTIM = 1


def _repeat(rank: int, world_size: int, what_happens: str) -> None:
    """All-reduces until something happens to one rank."""
    x = torch.ones(2_000_000)
    compression = Compression(bucket_bytes=2**16)
    for step in range(1_000_000):
        if rank == _VICTIM and step == 1:
            _start(what_happens)
        collectives.all_reduce(x, compression, step=step)


def _start(what_happens: str) -> None:
    """In some milliseconds, while pieces are on their way."""

    def happen() -> None:
        time.sleep(0.03)
        os.kill(os.getpid(), signal.SIGKILL if what_happens == "killed" else signal.SIGSTOP)

    threading.Thread(target=happen).start()


def _check(ended: list[ranks.Outcome], world_size: int, what: str) -> None:
    for rank, outcome in enumerate(ended):
        if rank == _VICTIM:
            continue
        assert outcome.error_type == "CommunicationError", outcome.error
        assert f"failed on rank {rank} of {world_size}" in outcome.error
        assert f"within {_GROUP_TIMEOUT_S:g} s" in outcome.error
        assert what in outcome.error
        assert outcome.seconds < _GROUP_TIMEOUT_S + _SLACK_S


@pytest.mark.parametrize(
    ("what_happens", "world_size"), [("killed", 2), ("killed", 4), ("stopped", 4)]
)
def test_others_report_what_failed(what_happens: str, world_size: int) -> None:
    ended = ranks.outcomes(
        _repeat,
        world_size,
        what_happens,
        group_timeout_s=_GROUP_TIMEOUT_S,
        grace_s=_GROUP_TIMEOUT_S + _SLACK_S if what_happens == "killed" else 5.0,
    )
    if what_happens == "killed":
        assert ended[_VICTIM].error == "killed by signal 9"
    _check(ended, world_size, "all-")


def _train(rank: int, world_size: int) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(500, 500), torch.nn.Linear(500, 500))
    ddp = torch.nn.parallel.DistributedDataParallel(model, bucket_cap_mb=1)
    ddp.register_comm_hook(CompressionHook(ddp, Compression()), compressed_hook)
    for step in range(1_000_000):
        if rank == _VICTIM and step == 2:
            _start("killed")
        ddp(torch.ones(8, 500)).sum().backward()


def test_backward_reports_it_when_the_hook_sends() -> None:
    ended = ranks.outcomes(
        _train, 2, group_timeout_s=_GROUP_TIMEOUT_S, grace_s=_GROUP_TIMEOUT_S + _SLACK_S
    )
    assert ended[_VICTIM].error == "killed by signal 9"
    _check(ended, 2, "backward")
