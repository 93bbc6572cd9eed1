"""The step exchanges what it was given, and nothing else happens to it."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed

from benchmarks.compression.cases import NOTHING
from benchmarks.compression.exchange import SHAPES, Exchange, make_gradients
from benchmarks.compression.sides import register

_SHAPES = ((8,), (16, 8), (3, 4))
# The 100 MB, up to what whole transformer layers make of it.
_MEGABYTES = (100.0, 101.0)


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    meeting = f"file://{tmp_path / 'store'}"
    distributed.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_gradients_are_100_mb() -> None:
    low, high = _MEGABYTES
    assert low < 4 * sum(map(math.prod, SHAPES)) / 1e6 < high


def test_gradients_are_reproducible_and_each_ranks_own() -> None:
    first, again, other = (make_gradients(_SHAPES, rank) for rank in (0, 0, 1))
    for a, b, c, shape in zip(first, again, other, _SHAPES, strict=True):
        assert a.shape == shape and a.dtype == torch.float32
        assert torch.equal(a, b) and not torch.equal(a, c)


def test_ranks_gradients_have_something_in_common() -> None:
    ((a,), (b,)) = (make_gradients([(512, 256)], rank) for rank in (0, 1))
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
    assert 0.5 < cosine < 0.95


@pytest.mark.parametrize("side", ["float32", NOTHING])
def test_one_ranks_average_is_its_gradient(one_rank: None, side: str) -> None:
    gradients = make_gradients(_SHAPES, 0)
    exchange = Exchange([torch.zeros_like(gradient) for gradient in gradients])
    register(exchange.ddp, side)
    assert exchange.num_bytes == 4 * sum(map(math.prod, _SHAPES))
    for factor in (1.0, 2.0, 3.0):  # DDP makes its buckets anew after the first step
        given = [factor * gradient for gradient in gradients]
        exchange.fill(given)
        exchange.step()
        for got, expected in zip(exchange.results(), given, strict=True):
            assert torch.equal(got, expected)
