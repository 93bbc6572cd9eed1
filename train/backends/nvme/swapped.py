"""What an engine keeps in files between steps of its optimizer's state, for checkpoints.

DeepSpeed swaps in and out group by group, of those that are not small; so do these. DeepSpeed's own
checkpoints copy the files, and lose the state of the groups that are in memory.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import deepspeed
import torch
from torch import distributed


class SwappedGroup(NamedTuple):
    """Of one group of weights that a rank's optimizer steps.

    Attributes:
        weights: Themselves, float32, flat.
        state: What the optimizer keeps of them; empty before its first step.
    """

    weights: torch.Tensor
    state: Mapping[str, torch.Tensor]


def swapped_groups(engine: deepspeed.DeepSpeedEngine) -> list[int]:
    """Returns the numbers of the groups of this rank that are in files."""
    optimizer = engine.optimizer
    if not engine.zero_nvme_offload_optimizer():
        return []
    numbers = range(len(optimizer.fp32_partitioned_groups_flat))
    return [number for number in numbers if optimizer._swappable_optimizer_subgroup(number)]


@contextmanager
def in_memory(
    engine: deepspeed.DeepSpeedEngine, number: int, *, changes: bool = False
) -> Iterator[None]:
    """Has the weights and the state of a group in memory in the block.

    Args:
        engine: Whose.
        number: Of the group, one of `swapped_groups`.
        changes: Whether they are written back.
    """
    optimizer = engine.optimizer
    optimizer._optimizer_states_and_gradient_swap_in(number)
    try:
        yield
    finally:
        if changes:
            optimizer._optimizer_states_and_gradient_swap_out(number)
        else:
            optimizer._release_swap_buffers(number)


def write_swapped(engine: deepspeed.DeepSpeedEngine, folder: Path) -> None:
    """Writes this rank's groups that are in files to a folder; one of them at a time is in memory.

    Raises:
        OSError: It cannot be written.
    """
    for number in swapped_groups(engine):
        with in_memory(engine, number):
            flat = engine.optimizer.fp32_partitioned_groups_flat[number]
            state = engine.optimizer.optimizer.state.get(flat, {})
            # They lie in buffers, all of which would be written.
            own = {name: tensor.detach().clone() for name, tensor in state.items()}
            folder.mkdir(parents=True, exist_ok=True)
            path = _path(folder, distributed.get_rank(), number)
            torch.save({"weights": flat.detach().clone(), "state": own}, path)


def has_swapped(folder: Path) -> bool:
    """Whether a rank wrote a group that was in files."""
    return any(folder.glob("swapped_rank_*.pt"))


def read_swapped(folder: Path, rank: int, number: int) -> SwappedGroup | None:
    """Returns a group as a rank wrote it; None: that had it in memory."""
    path = _path(folder, rank, number)
    if not path.exists():
        return None
    content = torch.load(path, "cpu", weights_only=True, mmap=True)
    return SwappedGroup(content["weights"], content["state"])


def _path(folder: Path, rank: int, number: int) -> Path:
    return folder / f"swapped_rank_{rank}_group_{number}.pt"
