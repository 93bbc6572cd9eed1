"""The moving average of weights in PyTorch, of whatever partition of them a rank holds."""

from collections.abc import Iterator, Sequence

import torch
from torch import distributed, nn

from models.weights import Weights


class MovingAverage:
    """Of a module's weights and running statistics.

    It lies as they lie: whole on every rank, or under ZeRO's third stage each rank's partition, so
    that it takes as much memory as the weights do, and no rank sends anything until it is asked for
    all of it.

    Args:
        module: Which; its weights now are the average's first.
    """

    def __init__(self, module: nn.Module):
        self._module = module
        self._values = [tensor.clone() for tensor in self._held()]

    @property
    def state(self) -> list[torch.Tensor]:
        """This rank's part of it."""
        return self._values

    @state.setter
    def state(self, state: Sequence[torch.Tensor]) -> None:
        for value, saved in zip(self._values, state, strict=True):
            value.copy_(saved)

    @property
    def names(self) -> list[str]:
        """Of the tensors, in the order of the state."""
        return [name for name, _ in self._tensors()]

    def take_whole(self, values: Sequence[torch.Tensor]) -> None:
        """Replaces it by an average of which every rank gives all."""
        tensors = (tensor for _, tensor in self._tensors())
        for own, tensor, value in zip(self._values, tensors, values, strict=True):
            own.copy_(_own_part(tensor, value))

    @torch.no_grad()
    def move(self, rate: float) -> None:
        """Moves it to the weights as they are, by this part of the way."""
        torch._foreach_lerp_(self._values, list(self._held()), rate)

    def weights(self) -> Weights:
        """Returns a copy, whole; collective."""
        return {
            name: _whole(tensor, value).cpu().numpy().copy()
            for (name, tensor), value in zip(self._tensors(), self._values, strict=True)
        }

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self._module.named_parameters()
        yield from self._module.named_buffers()

    def _held(self) -> Iterator[torch.Tensor]:
        """Yields what of each tensor is here."""
        for _, tensor in self._tensors():
            yield getattr(tensor, "ds_tensor", tensor).detach()


def _whole(tensor: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Returns all of a value, of which a rank holds the part that it holds of a tensor."""
    if not hasattr(tensor, "ds_tensor"):
        return value
    parts = value.new_empty(distributed.get_world_size(tensor.ds_process_group) * value.numel())
    distributed.all_gather_into_tensor(parts, value, tensor.ds_process_group)
    # The last of them is filled up.
    return parts[: tensor.ds_numel].view(tensor.ds_shape)


def _own_part(tensor: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Returns of a value, which is whole, the part that this rank holds of a tensor."""
    if not hasattr(tensor, "ds_tensor"):
        return value
    size, rank = tensor.ds_tensor.numel(), distributed.get_rank(tensor.ds_process_group)
    part = value.flatten()[rank * size : (rank + 1) * size]
    return nn.functional.pad(part, (0, size - part.numel()))  # the last of them is filled up
