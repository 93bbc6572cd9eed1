"""A fused step of an optimizer for PyTorch.

`optim.torch.optimizer` is what to use; this is what it calls.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from kernels import cubin_loader
from kernels.optimizer_step import _native, contract
from kernels.torch_tensors import ALIGNMENT_BYTES

_DTYPES = {getattr(torch, name): index for index, name in enumerate(contract.DTYPES)}

# Where in an item's row the gradient's address is.
_GRAD_ADDRESS = 7

_ADDRESS = torch.Tensor.data_ptr


class Batch:
    """Tensors of one device that one call updates, in one pass over their memory.

    HPC_KERNEL_BACKEND is asked when it is made.

    Args:
      device: Theirs.

    Raises:
      UnsupportedKernelError: HPC_KERNEL_BACKEND is no backend's name.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._backend = contract.backend(device.type)
        # Of each item in turn: the weights and the slots.
        self._kept: list[torch.Tensor] = []
        # Till the step is made; longer, they would take memory that others want.
        self._grads: list[torch.Tensor] = []
        self._places: list[int] = []
        # What the native code needs to know of each item; see _native.pyi.
        self._rows: list[int] = []

    def take(
        self, param: torch.Tensor, grad: torch.Tensor, slots: Sequence[torch.Tensor], place: int
    ) -> bool:
        """Adds a tensor and returns True; or returns False, where no kernel takes it.

        A kernel takes weights, gradient and slots that are dense in one order of memory, and as
        their memory has them: without torch's bit for a negative view. Slots of bytes are in the
        order of contiguous weights, whatever the weights' own is. On a GPU all start at multiples
        of 16 bytes.

        Args:
          param: the weights.
          grad: their gradient, of the same dtype.
          slots: float32; or uint8, payloads of one chunk in `contract.CODEC`.
          place: the index of `contract.seed`.
        """
        size, kind = param.numel(), slots[0].dtype
        expected = _slot_size(kind, size)
        if (
            self._backend is None
            or param.dtype not in _DTYPES
            or grad.dtype != param.dtype
            or grad.shape != param.shape
            or any(x.dtype != kind or x.numel() != expected for x in slots)
            or any(x.device != self._device for x in (grad, *slots))
        ):
            return False
        tensors = (param, grad, *slots)
        are_contiguous = all(x.is_contiguous() for x in tensors)
        if not (are_contiguous or _are_channels_last(tensors)) or not self._are_aligned(tensors):
            return False
        if any(x.is_neg() for x in tensors):
            return False
        self._kept += (param, *slots)
        self._grads.append(grad)
        self._places.append(place)
        has_bytes, decays = kind == torch.uint8, True
        self._rows += (size, _DTYPES[param.dtype], has_bytes, decays, place)
        for x in tensors:
            self._rows += (x.data_ptr(), x.nbytes)
        return True

    def have_overlaps(self) -> bool:
        """Whether one tensor's memory is another's too, other than that of gradients.

        Then what comes out depends on which is updated first, and there is no first here.
        """
        spans = sorted((x.data_ptr(), x.data_ptr() + x.nbytes) for x in self._kept if x.nbytes)
        return any(end > start for (_, end), (start, _) in pairwise(spans))

    def renew(self, grads: Sequence[torch.Tensor]) -> bool:
        """Exchanges the gradients and returns True; or returns False, where no kernel takes them.

        Args:
          grads: of each tensor that was taken. But for the places of these in memory, they and all
            other tensors must be as they were then, and their storages as large, which the caller
            has seen to.
        """
        addresses = [*map(_ADDRESS, grads)]
        # Some have no memory any more, or never had any.
        if not all(addresses) or not self._are_aligned(grads):
            return False
        self._grads = [*grads]
        width = len(self._rows) // len(grads)
        self._rows[_GRAD_ADDRESS::width] = addresses
        return True

    def _are_aligned(self, tensors: Sequence[torch.Tensor]) -> bool:
        if self._device.type != "cuda":
            return True
        return not any(address % ALIGNMENT_BYTES for address in map(_ADDRESS, tensors))

    def step(
        self,
        rule: str,
        *,
        step: int,
        rate: float,
        weight_decay: float,
        decay_is_proximal: bool,
        hyperparameters: Sequence[float],
        scalars: Sequence[float],
    ) -> None:
        """Updates weights and slots in place.

        Args:
          rule: one of `contract.RULES`.
          step: the update's number, counted from 1.
          rate: the learning rate.
          weight_decay: see `optim.algorithm`.
          decay_is_proximal: likewise.
          hyperparameters: as `contract.RULES` names them.
          scalars: likewise.

        Raises:
          ValueError: no rule has this name, or it takes other numbers; nothing was changed.
        """
        if not self._rows:
            return
        settings: dict[str, Any] = {
            "rule": contract.RULE_NAMES.index(rule),
            "decay_is_proximal": decay_is_proximal,
            "weight_decay": weight_decay,
            "hyperparameters": hyperparameters,
        }
        if self._backend == "cpu":
            _native.limit_threads(torch.get_num_threads())
            _native.step_cpu(**settings, step=step, rate=rate, scalars=scalars, rows=self._rows)
        elif self._device.type == "cuda":
            cubin_loader.ensure_registered(_native)
            numbers = _numbers(step, rate, scalars).to(self._device, non_blocking=True)
            _native.step_triton(
                **settings,
                numbers=numbers.data_ptr(),
                rows=self._rows,
                device=self._device.index,
                stream=torch.cuda.current_stream(self._device).cuda_stream,
            )
        else:
            # Imported here: Triton decides at its import whether to interpret.
            from kernels.optimizer_step import triton_jit

            numbers = _numbers(step, rate, scalars)
            width = len(self._kept) // len(self._grads)
            for i, (grad, place) in enumerate(zip(self._grads, self._places, strict=True)):
                param, *slots = self._kept[i * width : (i + 1) * width]
                triton_jit.step(numbers, param, grad, slots, place, **settings)
        self._grads.clear()


class Counters:
    """How many updates each of many tensors has had.

    torch takes as long for a counter as a kernel for a matrix: 2 us.

    Args:
      counters: of one number each, mostly float32 on the CPU.
    """

    def __init__(self, counters: Sequence[torch.Tensor]):
        self._counters = counters
        are_plain = all(x.dtype == torch.float32 and x.is_cpu for x in counters)
        self._addresses = [*map(_ADDRESS, counters)] if are_plain else None

    def read(self) -> list[int]:
        """Returns what they are at.

        Raises:
          ValueError: one is at no count.
        """
        if self._addresses is not None:
            return _native.read_counters(self._addresses)
        return [_count(x.item()) for x in self._counters]

    def count_up(self) -> None:
        """Adds 1 to each, in place."""
        if self._addresses is not None:
            _native.count_up(self._addresses)
        else:
            torch._foreach_add_(self._counters, 1)


def _count(value: float) -> int:
    if not 0 <= value < 2**31 or value != int(value):
        raise ValueError(f"a step must be a count of updates, got {value}")
    return int(value)


def _slot_size(dtype: torch.dtype, size: int) -> int | None:
    """Numbers in a slot of this dtype for `size` weights; None of a dtype that is not served."""
    if dtype == torch.uint8:
        return contract.CODEC.payload_bytes(size)
    return size if dtype == torch.float32 else None


def _are_channels_last(tensors: Sequence[torch.Tensor]) -> bool:
    order = torch.channels_last
    return all(x.ndim == 4 and x.is_contiguous(memory_format=order) for x in tensors)


def _numbers(step: int, rate: float, scalars: Sequence[float]) -> torch.Tensor:
    """The step, and at 16 bytes the rate and the scalars: int32, and the bits of float32."""
    numbers = np.array([0, 0, 0, 0, rate, *scalars], np.float32).view(np.int32)
    numbers[0] = step
    return torch.from_numpy(numbers)
