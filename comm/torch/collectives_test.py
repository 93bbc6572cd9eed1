"""The collectives among processes: against a simulation, bit for bit, and the exact mean."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from comm.compression import Compression
from comm.testing import ranks, simulation
from comm.torch import collectives
from comm.torch.feedback import Feedback
from comm.wire import Wire
from kernels.quantize.contract import FORMAT_NAMES, FORMATS, MIN_SCALE, codec

Floats = NDArray[np.float32]

_STEPS = 3

# Float32 sums of a few values; beside the steps of 8 bits it hardly counts.
_FLOAT32_RELATIVE = 1e-6

# One piece, several, not whole blocks, fewer blocks than ranks, nothing.
_SIZES = (0, 1, 255, 1024, 5000, 12_345)
_BLOCK_SIZE = 64
_BUCKET_BYTES = 4 * 2048

# The sizes of reduce_scatter's shards.
_SHARDS = (0, 1, 100, 1024, 3001)


def _bits(x: NDArray[Any] | torch.Tensor) -> bytes:
    return np.ascontiguousarray(x.numpy() if isinstance(x, torch.Tensor) else x).tobytes()


def _compressions() -> list[Compression]:
    return [
        Compression(
            codec(format_name, block_size=_BLOCK_SIZE, rounding=rounding),
            bucket_bytes=_BUCKET_BYTES,
            seed=7,
        )
        for format_name, rounding in itertools.product(FORMAT_NAMES, ("nearest", "stochastic"))
    ]


def _all_reduces(rank: int, world_size: int) -> list[tuple[list[Floats], Any, list[Any]]]:
    """Results of all steps, and the residuals of the last, of every case."""
    cases = []
    for compression, size in itertools.product(_compressions(), _SIZES):
        feedback = Feedback()
        results = []
        for step in range(_STEPS):
            x = torch.from_numpy(simulation.gradient(rank, step, size))
            collectives.all_reduce(x, compression, feedback=feedback, step=step)
            results.append(x.numpy())
        local = np.zeros(0) if feedback.local is None else feedback.local.values.numpy()
        owned = [(span.start, span.values.numpy()) for span in feedback.owned]
        cases.append((results, local, owned))
    return cases


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_all_reduce_equals_the_simulation_bit_for_bit(world_size: int) -> None:
    results_by_rank = ranks.run(_all_reduces, world_size)
    for i, (compression, size) in enumerate(itertools.product(_compressions(), _SIZES)):
        local = [np.zeros(size, np.float32) for _ in range(world_size)]
        owned = [np.zeros(size, np.float32)]
        for step in range(_STEPS):
            xs = [simulation.gradient(rank, step, size) for rank in range(world_size)]
            want = simulation.all_reduce(xs, compression, local=local, owned=owned, step=step)
            for rank in range(world_size):
                assert _bits(results_by_rank[rank][i][0][step]) == _bits(want)
        for rank in range(world_size):
            _, got_local, got_owned = results_by_rank[rank][i]
            np.testing.assert_array_equal(got_local, local[rank])
            for start, values in got_owned:
                np.testing.assert_array_equal(values, owned[0][start : start + values.size])
        owned_by_all = [span for rank in results_by_rank for span in rank[i][2]]
        assert sum(values.size for _, values in owned_by_all) == size


def _reduce_scatters(rank: int, world_size: int) -> list[tuple[list[Floats], Any]]:
    cases = []
    for compression, shard in itertools.product(_compressions(), _SHARDS):
        feedback = Feedback()
        results = []
        for step in range(_STEPS):
            x = torch.from_numpy(simulation.gradient(rank, step, world_size * shard))
            output = torch.empty(shard)
            collectives.reduce_scatter(
                output, x, compression, average=step % 2 == 0, feedback=feedback, step=step
            )
            results.append(output.numpy())
        local = np.zeros(0) if feedback.local is None else feedback.local.values.numpy()
        cases.append((results, local))
    return cases


@pytest.mark.parametrize("world_size", [2, 3])
def test_reduce_scatter_equals_the_simulation_bit_for_bit(world_size: int) -> None:
    results_by_rank = ranks.run(_reduce_scatters, world_size)
    for i, (compression, shard) in enumerate(itertools.product(_compressions(), _SHARDS)):
        local = [np.zeros(world_size * shard, np.float32) for _ in range(world_size)]
        for step in range(_STEPS):
            xs = [simulation.gradient(rank, step, world_size * shard) for rank in range(world_size)]
            want = simulation.reduce_scatter(
                xs, compression, average=step % 2 == 0, local=local, step=step
            )
            for rank in range(world_size):
                share = want[rank * shard : (rank + 1) * shard]
                assert _bits(results_by_rank[rank][i][0][step]) == _bits(share)
        for rank in range(world_size):
            np.testing.assert_array_equal(results_by_rank[rank][i][1], local[rank])


def _precisions(rank: int, world_size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """All-reduced and reduce-scattered gradients in 16 bits, without error feedback."""
    results = []
    for dtype in (torch.bfloat16, torch.float16):
        x = torch.from_numpy(simulation.gradient(rank, 0, 4096)).to(dtype)
        share = torch.empty(x.numel() // world_size, dtype=dtype)
        collectives.reduce_scatter(share, x, _compressions()[0], average=False)
        collectives.all_reduce(x, _compressions()[0])
        results.append((x, share))
    return results


def test_16_bit_gradients_equal_the_simulation_rounded_once() -> None:
    world_size = 2
    results_by_rank = ranks.run(_precisions, world_size)
    for i, dtype in enumerate((torch.bfloat16, torch.float16)):
        xs = [
            torch.from_numpy(simulation.gradient(rank, 0, 4096)).to(dtype)
            for rank in range(world_size)
        ]
        values = [x.float().numpy() for x in xs]
        want = torch.from_numpy(simulation.all_reduce(values, _compressions()[0])).to(dtype)
        sums = simulation.reduce_scatter(values, _compressions()[0], average=False)
        shares = torch.from_numpy(sums).to(dtype).chunk(world_size)
        for rank in range(world_size):
            x, share = results_by_rank[rank][i]
            assert torch.equal(x, want)
            assert torch.equal(share, shares[rank])


def _means(rank: int, world_size: int) -> list[Floats]:
    results = []
    for compression in _compressions():
        x = torch.from_numpy(simulation.gradient(rank, 0, 12_345))
        collectives.all_reduce(x, compression)
        results.append(x.numpy())
    return results


def _largest_step(x: NDArray[Any], format_index: int) -> NDArray[Any]:
    """At each value, the widest distance of neighbouring codes in its block, in its units."""
    f = FORMATS[format_index]
    padded = np.pad(x, (0, -x.size % _BLOCK_SIZE)).reshape(-1, _BLOCK_SIZE)
    magnitude = np.abs(padded).max(axis=1)
    widest = 2.0 ** (np.floor(np.log2(f.max_value)) - f.mantissa_bits) if f.mantissa_bits else 1.0
    steps = np.maximum(magnitude / f.max_value, MIN_SCALE) * widest
    return np.repeat(steps, _BLOCK_SIZE)[: x.size]


def test_mean_is_within_a_step_of_the_exact_one() -> None:
    world_size = 4
    results = ranks.run(_means, world_size)[0]
    xs = [simulation.gradient(rank, 0, 12_345).astype(np.float64) for rank in range(world_size)]
    exact = np.mean(xs, axis=0)
    for compression, got in zip(_compressions(), results, strict=True):
        code = compression.codec
        before = np.mean([_largest_step(x, code.format) for x in xs], axis=0)
        after = _largest_step(np.abs(exact) + before, code.format)
        # To the nearest value it is half a step at most, at random less than a whole one.
        share = 0.5 if code.rounding == 0 else 1.0
        bound = share * (before + after) + _FLOAT32_RELATIVE * np.mean(np.abs(xs), axis=0)
        assert (np.abs(got - exact) <= bound).all()


def _coalesced(rank: int, world_size: int) -> list[bool]:
    compression = Compression(bucket_bytes=_BUCKET_BYTES)
    sizes = (300, 5000, 0, 2048)
    together = [torch.from_numpy(simulation.gradient(rank, 0, size)) for size in sizes]
    alone = [x.clone() for x in together]
    wires = Wire(), Wire()
    collectives.all_reduce_coalesced(together, compression, wire=wires[0])
    for x in alone:
        collectives.all_reduce(x, compression, wire=wires[1])
    return [
        wires[0] == wires[1],
        *itertools.starmap(torch.equal, zip(together, alone, strict=True)),
    ]


def test_vectors_together_are_reduced_as_one_by_one() -> None:
    assert all(itertools.chain.from_iterable(ranks.run(_coalesced, 2)))


def _alone(rank: int, world_size: int) -> None:
    x = torch.randn(1000)
    kept, share, feedback, wire = x.clone(), torch.empty(1000), Feedback(), Wire()
    collectives.all_reduce(x, Compression(), feedback=feedback, wire=wire)
    collectives.reduce_scatter(share, x, Compression(), wire=wire)
    assert torch.equal(x, kept)
    assert torch.equal(share, kept)
    assert wire == Wire()
    assert feedback.local is None


def test_one_rank_sends_and_loses_nothing() -> None:
    ranks.run(_alone, 1)


def _refusals(rank: int, world_size: int) -> list[str]:
    feedback = Feedback()
    collectives.all_reduce(torch.zeros(1000), Compression(), feedback=feedback)
    calls = [
        lambda: collectives.all_reduce(torch.zeros(4, dtype=torch.float64), Compression()),
        lambda: collectives.all_reduce(torch.zeros(4, 4), Compression()),
        lambda: collectives.all_reduce(torch.zeros(8)[::2], Compression()),
        lambda: collectives.all_reduce(torch.zeros(2000), Compression(), feedback=feedback),
        lambda: collectives.reduce_scatter(torch.zeros(4), torch.zeros(9), Compression()),
        lambda: collectives.all_reduce(torch.zeros(4), Compression(ranks_per_node=3)),
    ]
    messages = []
    for call in calls:
        with pytest.raises((TypeError, ValueError)) as error:
            call()
        messages.append(str(error.value))
    return messages


def test_refuses_what_it_cannot_do() -> None:
    for messages in ranks.run(_refusals, 2):
        dtype, shape, strides, other, sizes, nodes = messages
        assert "float64" in dtype
        assert "(4, 4)" in shape
        assert "contiguous" in strides
        assert "1000 values" in other
        assert "2000" in other
        assert "8 in all; it has 9" in sizes
        assert "ranks_per_node 3 must divide the number of ranks, 2" in nodes
