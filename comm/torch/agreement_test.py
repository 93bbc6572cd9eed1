"""Ranks that disagree are told so, by name, before anything is sent."""

from collections.abc import Callable

import pytest
import torch

from comm.compression import Compression
from comm.testing import ranks
from comm.torch import agreement, collectives
from comm.torch.errors import MismatchError
from comm.torch.feedback import Feedback
from comm.torch.subgroup import default_group
from kernels.quantize.contract import codec

_GROUP_TIMEOUT_S = 20.0


def _call(
    size: int = 5000,
    dtype: torch.dtype = torch.float32,
    compression: Compression | None = None,
    average: bool = True,
    feedback: bool = False,
) -> None:
    collectives.all_reduce(
        torch.zeros(size, dtype=dtype),
        compression or Compression(),
        average=average,
        feedback=Feedback() if feedback else None,
    )


# What rank 1 does otherwise than the others, and what the message says of it and of them.
_DIFFERENCES: tuple[tuple[Callable[[], None], str, str], ...] = (
    (lambda: _call(size=5001), "5001 float32", "5000 float32"),
    (lambda: _call(size=50_000_000), "50000000 float32", "5000 float32"),
    (lambda: _call(dtype=torch.bfloat16), "bfloat16", "float32"),
    (lambda: _call(compression=Compression(codec(block_size=64))), "blocks of 64", "blocks of 256"),
    (lambda: _call(compression=Compression(codec("float8_e5m2"))), "float8_e5m2", "int8"),
    (
        lambda: _call(compression=Compression(codec(rounding="stochastic"))),
        "rounded to stochastic",
        "rounded to nearest",
    ),
    (lambda: _call(compression=Compression(bucket_bytes=4096)), "bucket_bytes 4096", "4194304"),
    (lambda: _call(compression=Compression(seed=3)), "seed 3", "seed 0"),
    (lambda: _call(compression=Compression(ranks_per_node=1)), "1 ranks a node", "one level"),
    (lambda: _call(average=False), "sum", "mean"),
    (lambda: _call(feedback=True), "with error", "without error"),
    (
        lambda: collectives.reduce_scatter(torch.zeros(10), torch.zeros(30), Compression()),
        "reduce_scatter",
        "all_reduce",
    ),
)


def _disagree(rank: int, world_size: int) -> list[str]:
    _call()
    messages = []
    for other, _, _ in _DIFFERENCES:
        with pytest.raises(MismatchError) as error:
            (other if rank == 1 else _call)()
        messages.append(str(error.value))
    # Nothing is left of what was refused: the group still works.
    x = torch.full((5000,), float(rank))
    collectives.all_reduce(x, Compression(), average=False)
    assert torch.equal(x, torch.full((5000,), 3.0))
    return messages


def test_names_the_ranks_and_what_each_has() -> None:
    for messages in ranks.run(_disagree, 3, group_timeout_s=_GROUP_TIMEOUT_S):
        for message, (_, theirs, ours) in zip(messages, _DIFFERENCES, strict=True):
            lines = message.splitlines()
            mine = next(line for line in lines if line.startswith("  ranks 0, 2: "))
            other = next(line for line in lines if line.startswith("  rank 1: "))
            assert theirs in other
            assert ours in mine


def _differ_far_on(rank: int, world_size: int) -> None:
    group = default_group(None)
    agreement.begin_text("a" * 10_000, group, torch.device("cpu"))()
    with pytest.raises(MismatchError):
        agreement.begin_text("a" * 10_000 + str(rank), group, torch.device("cpu"))()


def test_what_does_not_fit_into_a_record_counts() -> None:
    ranks.run(_differ_far_on, 2)
