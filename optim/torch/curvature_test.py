"""The estimates are right on average, where the Hessian's diagonal is known."""

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import distributed, multiprocessing
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from optim.torch.curvature import gauss_newton_bartlett, hutchinson, sample_labels

_RANKS = 2


def test_gauss_newton_bartlett_of_softmax_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(16, 3, generator=generator)
    weight = torch.randn(4, 3, generator=generator, requires_grad=True)
    logits = inputs @ weight.T
    p = logits.detach().softmax(-1)
    exact = (p * (1 - p)).T @ inputs.square() / len(inputs)
    estimate = gauss_newton_bartlett(len(inputs))
    total = torch.zeros_like(weight)
    torch.manual_seed(1)
    for _ in range(4000):
        loss = F.cross_entropy(logits, sample_labels(logits))
        (grad,) = torch.autograd.grad(loss, weight, retain_graph=True)
        total += estimate(grad)
    torch.testing.assert_close(total / 4000, exact, rtol=0.1, atol=0.0)


def test_hutchinson_of_a_quadratic() -> None:
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    hessian = half @ half.T + 4 * torch.eye(6, dtype=torch.float64)
    weight = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    unused = torch.ones(2, dtype=torch.float64, requires_grad=True)
    total = torch.zeros_like(weight)
    for _ in range(4000):
        loss = 0.5 * weight @ hessian @ weight + unused.sum()
        hutchinson(loss, [weight, unused], generator)
        assert weight.grad is not None
        assert torch.equal(unused.grad, torch.zeros_like(unused))
        total += weight.grad
    torch.testing.assert_close(total / 4000, hessian.diagonal(), rtol=0.1, atol=0.0)


def _rank(rank: int, directory: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", rank=rank, world_size=_RANKS, store=distributed.FileStore(f"{directory}/store")
    )
    # Each rank has a loss of its own: the mean of their diagonals is [2, 3], of 2000 weights each.
    diagonal = torch.tensor([[1.0], [2.0]]) if rank == 0 else torch.tensor([[3.0], [4.0]])
    weight = torch.ones(2, 2000, requires_grad=True)
    generator = torch.Generator().manual_seed(rank)
    loss = 0.5 * (diagonal * weight.square()).sum()
    hutchinson(loss, [weight], generator, group=distributed.group.WORLD)
    estimate = weight.grad.mean(dim=1)
    torch.testing.assert_close(estimate, torch.tensor([2.0, 3.0]), rtol=0.1, atol=0.0)
    others = [torch.empty_like(weight) for _ in range(_RANKS)]
    distributed.all_gather(others, weight.grad)
    assert torch.equal(*others)

    part = DTensor.from_local(weight.detach(), init_device_mesh("cpu", (_RANKS,)), [Shard(0)])
    with pytest.raises(TypeError, match=r"whole parameters, .* of shape \(4, 2000\); use gauss"):
        hutchinson(part.sum(), [part])
    distributed.barrier()
    distributed.destroy_process_group()
    # Without the interpreter's own end, which native threads of the process group may abort.
    os._exit(0)


def test_hutchinson_over_ranks(tmp_path: Path) -> None:
    multiprocessing.spawn(_rank, (tmp_path,), nprocs=_RANKS)
