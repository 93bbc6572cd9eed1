"""DistributedDataParallel with the hook, among 2 and 4 processes."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from comm.compression import Compression, compresses
from comm.testing import ranks, simulation
from comm.torch.ddp import CompressionHook, compressed_hook
from comm.wire import Wire, all_reduce_bytes
from kernels.quantize.contract import codec

_COMPRESSION = Compression(codec(block_size=64), bucket_bytes=4 * 4096)
_IN, _HIDDEN, _OUT = 32, 300, 10

# The last of 60 losses is near 1; 8 bits with error feedback change it by some 1e-4.
_LOSS_ABSOLUTE = 0.01


def _model() -> nn.Module:
    """Weights on both sides of the size from which one is sent by itself, none whole blocks."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(_IN, _HIDDEN),
        nn.GELU(),
        nn.LayerNorm(_HIDDEN),
        nn.Linear(_HIDDEN, _HIDDEN),
        nn.GELU(),
        nn.Linear(_HIDDEN, _OUT),
    )


def _batch(rank: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + rank)
    x = torch.randn(16, _IN, generator=generator)
    return x, x[:, :_OUT].argmax(dim=1)


def _ddp(model: nn.Module, bucket_mb: float) -> DistributedDataParallel:
    return DistributedDataParallel(model, bucket_cap_mb=bucket_mb)


def _loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    x, y = batch
    x = x.to(next(model.parameters()).dtype)
    return nn.functional.cross_entropy(model(x).float(), y)


def _digest(tensors: Any) -> str:
    return hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in tensors)).hexdigest()


class _Trained(NamedTuple):
    loss: float
    digest: str
    num_steps: int
    wire: Wire


def _train(
    rank: int,
    world_size: int,
    num_steps: int,
    bucket_mb: float = 0.2,
    compression: Compression | None = _COMPRESSION,
    load_from: Path | None = None,
    save_to: Path | None = None,
) -> _Trained:
    """Trains with momentum, whose state the checkpoint in a directory also has."""
    model = _model()
    ddp = _ddp(model, bucket_mb)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    state = CompressionHook(ddp, compression or _COMPRESSION)
    if compression is not None:
        ddp.register_comm_hook(state, compressed_hook)
    first = 0
    if load_from is not None:
        state.load(load_from)
        first = state.step
        saved = torch.load(load_from / "model.pt")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    for step in range(first, first + num_steps):
        optimizer.zero_grad()
        loss = _loss(ddp, _batch(rank, step))
        loss.backward()
        optimizer.step()
    if save_to is not None:
        state.save(save_to)
        if rank == 0:
            saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(saved, save_to / "model.pt")
    return _Trained(loss.item(), _digest(model.parameters()), state.step, state.wire)


def test_trains_as_uncompressed_with_equal_parameters_on_all_ranks() -> None:
    world_size = 2
    compressed = ranks.run(_train, world_size, 60)
    plain = ranks.run(_train, world_size, 60, 0.2, None)
    assert len({rank.digest for rank in compressed}) == 1
    assert compressed[0].digest != plain[0].digest
    loss = np.mean([rank.loss for rank in compressed])
    assert loss == pytest.approx(np.mean([rank.loss for rank in plain]), abs=_LOSS_ABSOLUTE)
    assert compressed[0].num_steps == 60
    # Biases and norms, which go uncompressed, are 1% of this small model.
    num_values = sum(p.numel() for p in _model().parameters())
    assert compressed[0].wire.float32_bytes == pytest.approx(
        60 * all_reduce_bytes(4 * num_values, world_size)
    )
    assert compressed[0].wire.ratio < 0.29


def test_buckets_do_not_change_what_comes_out() -> None:
    digests = {ranks.run(_train, 2, 5, bucket_mb)[0].digest for bucket_mb in (0.02, 0.2, 25)}
    assert len(digests) == 1


@pytest.mark.parametrize(("world_size", "ranks_per_node"), [(3, None), (4, 2)])
def test_resumed_is_uninterrupted_bit_for_bit(
    world_size: int, ranks_per_node: int | None, tmp_path: Path
) -> None:
    compression = Compression(
        _COMPRESSION.codec, bucket_bytes=4 * 4096, ranks_per_node=ranks_per_node
    )
    run: Callable[..., list[_Trained]] = ranks.run
    run(_train, world_size, 3, 0.2, compression, None, tmp_path)
    resumed = run(_train, world_size, 4, 0.2, compression, tmp_path)
    straight = run(_train, world_size, 7, 0.2, compression)
    assert [rank.digest for rank in resumed] == [rank.digest for rank in straight]
    assert [rank.loss for rank in resumed] == [rank.loss for rank in straight]


def test_resumes_with_another_number_of_ranks(tmp_path: Path) -> None:
    ranks.run(_train, 4, 3, 0.2, _COMPRESSION, None, tmp_path)
    resumed = ranks.run(_train, 2, 3, 0.2, _COMPRESSION, tmp_path)
    assert resumed[0].num_steps == 6
    assert resumed[0].digest == resumed[1].digest


def _gradients(
    rank: int, world_size: int, dtype: torch.dtype, accumulate: int
) -> tuple[list[list[torch.Tensor]], list[list[torch.Tensor]]]:
    """Of three steps: each parameter's gradient after the hook, and this rank's own before."""
    reduced, own = [], []
    model, alone = _model().to(dtype), _model().to(dtype)
    ddp = _ddp(model, 0.2)
    ddp.register_comm_hook(CompressionHook(ddp, _COMPRESSION), compressed_hook)
    for step in range(3):
        model.zero_grad()
        alone.zero_grad()
        with ddp.no_sync():
            for i in range(1, accumulate):
                _loss(ddp, _batch(rank, 10 * step + i)).backward()
        _loss(ddp, _batch(rank, 10 * step)).backward()
        for i in [*range(1, accumulate), 0]:
            _loss(alone, _batch(rank, 10 * step + i)).backward()
        reduced.append([p.grad for p in model.parameters() if p.grad is not None])
        own.append([p.grad for p in alone.parameters() if p.grad is not None])
    return reduced, own


@pytest.mark.parametrize(
    ("world_size", "dtype", "accumulate"),
    [(2, torch.float32, 1), (4, torch.float32, 1), (2, torch.bfloat16, 1), (2, torch.float32, 3)],
)
def test_gradients_equal_the_simulation_of_each_parameter(
    world_size: int, dtype: torch.dtype, accumulate: int
) -> None:
    by_rank = ranks.run(_gradients, world_size, dtype, accumulate)
    shapes = [tuple(p.shape) for p in _model().parameters()]
    for i, shape in enumerate(shapes):
        size = int(np.prod(shape))
        local = [np.zeros(size, np.float32) for _ in range(world_size)]
        owned = [np.zeros(size, np.float32)]
        for step in range(3):
            own = [
                by_rank[rank][1][step][i].flatten().float().numpy() for rank in range(world_size)
            ]
            if compresses(_COMPRESSION, shape):
                want = simulation.all_reduce(own, _COMPRESSION, local=local, owned=owned, step=step)
            else:
                want = sum(own[1:], start=own[0]) / np.float32(world_size)
            rounded = torch.from_numpy(want).to(dtype).float().numpy()
            for rank in range(world_size):
                got = by_rank[rank][0][step][i].flatten().float().numpy()
                np.testing.assert_array_equal(got, rounded)


def _without_compressible(rank: int, world_size: int) -> tuple[list[torch.Tensor], float]:
    """A model of which nothing is large enough."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    ddp = DistributedDataParallel(model)
    state = CompressionHook(ddp, Compression())
    ddp.register_comm_hook(state, compressed_hook)
    ddp(torch.full((1, 4), 1.0 + rank)).sum().backward()
    return [p.grad for p in model.parameters() if p.grad is not None], state.wire.ratio


def test_small_parameters_are_averaged_exactly() -> None:
    for (weight, bias), ratio in ranks.run(_without_compressible, 2):
        assert torch.equal(weight, torch.full((3, 4), 1.5))
        assert torch.equal(bias, torch.ones(3))
        # 15 values, and a zero that makes them two equal shares.
        assert ratio == pytest.approx(16 / 15)


def _disagree(rank: int, world_size: int) -> None:
    # DistributedDataParallel itself compares shapes, but not what the hook is told.
    model = _model()
    ddp = _ddp(model, 0.2)
    compression = Compression(codec(block_size=64 if rank else 128))
    ddp.register_comm_hook(CompressionHook(ddp, compression), compressed_hook)
    _loss(ddp, _batch(rank, 0)).backward()


def test_backward_names_settings_that_differ() -> None:
    for outcome in ranks.outcomes(_disagree, 2, group_timeout_s=20.0):
        assert outcome.error_type == "MismatchError"
        assert "rank 0: all_reduce" in outcome.error
        assert "blocks of 128" in outcome.error


def _loss_scale(rank: int, world_size: int) -> None:
    results = []
    for scale in (1.0, 2.0**8):
        model = _model()
        ddp = _ddp(model, 0.2)
        state = CompressionHook(ddp, _COMPRESSION)
        ddp.register_comm_hook(state, compressed_hook)
        for step in range(4):
            model.zero_grad()
            if step == 2:
                state.rescale(scale)
            factor = scale if step >= 2 else 1.0
            (factor * _loss(ddp, _batch(rank, step))).backward()
        results.append([p.grad / factor for p in model.parameters() if p.grad is not None])
    for plain, scaled in zip(*results, strict=True):
        assert torch.equal(plain, scaled)


def test_gradients_follow_the_scale_of_the_loss() -> None:
    ranks.run(_loss_scale, 2)
