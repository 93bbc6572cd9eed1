"""Sharded over ranks by FSDP, training is what it is on one."""

import os
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from optim.registry import ALGORITHMS, algorithm
from optim.torch.curvature import as_it_is
from optim.torch.optimizer import Optimizer
from optim.torch.slots import local

_RANKS = 2
_STEPS = 6


def _model() -> nn.Module:
    torch.manual_seed(0)
    # Rows that no number of ranks divides, and enough of them for state in bytes.
    return nn.Sequential(nn.Linear(31, 301), nn.Tanh(), nn.Linear(301, 3))


def _train(model: nn.Module, optimizer: Optimizer, start: int, stop: int) -> None:
    rule = optimizer.algorithm
    for step in range(start, stop):
        inputs = torch.randn(8, 31, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        if rule.wants_curvature(step):
            with optimizer.estimating_curvature(as_it_is):
                optimizer.step()
        optimizer.step()


def _whole(model: nn.Module) -> list[torch.Tensor]:
    params = [param.detach() for param in model.parameters()]
    return [param.full_tensor() if isinstance(param, DTensor) else param for param in params]


def _sharded(settings: dict) -> tuple[nn.Module, Optimizer]:
    model = _model()
    mesh = init_device_mesh("cpu", (_RANKS,))
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, Optimizer(model.parameters(), algorithm(**settings))


def _goes_on_from_a_checkpoint(settings: dict, directory: Path) -> nn.Module:
    """Trains to the end, and so from a sharded checkpoint, bit for bit; returns the model."""
    sharded, optimizer = _sharded(settings)
    _train(sharded, optimizer, 0, _STEPS // 2)
    weights, state = get_state_dict(sharded, optimizer)
    path = f"{directory}/{settings['name']}{optimizer.algorithm.state_bits}"
    checkpoint.save({"weights": weights, "state": state}, checkpoint_id=path)
    _train(sharded, optimizer, _STEPS // 2, _STEPS)

    resumed, restored = _sharded(settings)
    weights, state = get_state_dict(resumed, restored)
    content = {"weights": weights, "state": state}
    checkpoint.load(content, checkpoint_id=path)
    set_state_dict(
        resumed, restored, model_state_dict=content["weights"], optim_state_dict=content["state"]
    )
    _train(resumed, restored, _STEPS // 2, _STEPS)
    for ours, expected in zip(_whole(resumed), _whole(sharded), strict=True):
        assert torch.equal(ours, expected)
    for before, after in zip(_slots(optimizer), _slots(restored), strict=True):
        assert torch.equal(before, after)
    kinds = {slot.dtype for slot in _slots(optimizer)}
    assert (torch.uint8 in kinds) == (optimizer.algorithm.state_bits == 8)
    return sharded


def _slots(optimizer: Optimizer) -> list[torch.Tensor]:
    """What this rank holds of them."""
    return [
        local(optimizer.state[param][slot])
        for group in optimizer.param_groups
        for param in group["params"]
        for slot in optimizer.algorithm.slots
    ]


def _rank(rank: int, directory: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", rank=rank, world_size=_RANKS, store=distributed.FileStore(f"{directory}/store")
    )
    for name in ALGORITHMS:
        settings = {"name": name, "weight_decay": 0.1, "learning_rate": 0.01}
        sharded = _goes_on_from_a_checkpoint(settings, directory)
        model = _model()
        _train(model, Optimizer(model.parameters(), algorithm(**settings)), 0, _STEPS)
        for ours, expected in zip(_whole(sharded), _whole(model), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7)
        _goes_on_from_a_checkpoint({**settings, "state_bits": 8}, directory)
    distributed.destroy_process_group()
    # Without the interpreter's own end, which native threads of the process group may abort.
    os._exit(0)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_every_optimizer_under_fsdp(tmp_path: Path) -> None:
    """The weights of one process, and bit for bit those of a run from a sharded checkpoint."""
    multiprocessing.spawn(_rank, (tmp_path,), nprocs=_RANKS)
