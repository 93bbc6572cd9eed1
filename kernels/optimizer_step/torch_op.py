"""A fused step of an optimizer for PyTorch.

`optim.torch.optimizer` is what to use; this is what it calls.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from kernels import cubin_loader
from kernels.optimizer_step import _native, contract

_DTYPES = {getattr(torch, name): index for index, name in enumerate(contract.DTYPES)}

# Of what the CUDA kernels load in vectors.
_ALIGNMENT_BYTES = 16


class Item(NamedTuple):
    """One tensor to update.

    Attributes:
      param: the weights, of a dtype that is served.
      grad: their gradient.
      slots: float32 like the weights, in the same order of memory; or uint8, payloads of one chunk
        in `contract.CODEC`. All of them fit.
      place: the index of `contract.seed`.
    """

    param: torch.Tensor
    grad: torch.Tensor
    slots: Sequence[torch.Tensor]
    place: int


def serves(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a kernel is there for weights of this dtype on this device."""
    return dtype in _DTYPES and _backend(device, dtype) is not None


def fits(param: torch.Tensor, grad: torch.Tensor, slots: Sequence[torch.Tensor]) -> bool:
    """Whether a kernel takes this tensor: of one dtype, and all dense in the same order.

    Slots of bytes are in the order of contiguous weights, whatever the weights' own is. On a GPU
    all start at multiples of 16 bytes.
    """
    if grad.dtype != param.dtype:
        return False
    tensors = (param, grad, *slots)
    if param.is_cuda and any(x.data_ptr() % _ALIGNMENT_BYTES for x in tensors):
        return False
    if all(x.is_contiguous() for x in tensors):
        return True
    channels_last = torch.channels_last
    return param.ndim == 4 and all(
        x.ndim == 4 and x.is_contiguous(memory_format=channels_last) for x in tensors
    )


def step(
    rule: str,
    items: Sequence[Item],
    *,
    step: int,
    rate: float,
    weight_decay: float,
    decay_is_proximal: bool,
    hyperparameters: Sequence[float],
    scalars: Sequence[float],
) -> None:
    """Updates weights and slots in place, all in one pass over their memory.

    Args:
      rule: one of `contract.RULES`.
      items: the tensors, on one device.
      step: the update's number, counted from 1.
      rate: the learning rate.
      weight_decay: see `optim.algorithm`.
      decay_is_proximal: likewise.
      hyperparameters: as `contract.RULES` names them.
      scalars: likewise.

    Raises:
      KeyError, ValueError: no rule has this name, or it takes other numbers; nothing was changed.
    """
    device = items[0].param.device
    settings: dict[str, Any] = {
        "rule": contract.RULE_NAMES.index(rule),
        "decay_is_proximal": decay_is_proximal,
        "weight_decay": weight_decay,
        "hyperparameters": hyperparameters,
    }
    if _backend(device, items[0].param.dtype) == "cpu":
        _native.limit_threads(torch.get_num_threads())
        _native.step_cpu(**settings, step=step, rate=rate, scalars=scalars, rows=_rows(items))
    elif device.type == "cuda":
        cubin_loader.ensure_registered(_native)
        numbers = _numbers(step, rate, scalars).to(device, non_blocking=True)
        _native.step_cuda(
            **settings,
            numbers=numbers.data_ptr(),
            rows=_rows(items),
            device=device.index,
            stream=torch.cuda.current_stream(device).cuda_stream,
        )
    else:
        # Imported here: Triton decides at its import whether to interpret.
        from kernels.optimizer_step import triton_jit

        numbers = _numbers(step, rate, scalars)
        for item in items:
            triton_jit.step(numbers, *item, **settings)


def _backend(device: torch.device, dtype: torch.dtype) -> str | None:
    return contract.backend(device.type, contract.DTYPES[_DTYPES[dtype]])


def _rows(items: Sequence[Item]) -> list[int]:
    """What the native code needs to know of the tensors; see _native.pyi."""
    rows: list[int] = []
    for param, grad, slots, place in items:
        rows += (
            param.numel(),
            _DTYPES[param.dtype],
            slots[0].dtype == torch.uint8,
            True,  # decays
            place,
            param.data_ptr(),
            grad.data_ptr(),
        )
        rows += [slot.data_ptr() for slot in slots]
    return rows


def _numbers(step: int, rate: float, scalars: Sequence[float]) -> torch.Tensor:
    """The step, and at 16 bytes the rate and the scalars: int32, and the bits of float32."""
    numbers = np.array([0, 0, 0, 0, rate, *scalars], np.float32).view(np.int32)
    numbers[0] = step
    return torch.from_numpy(numbers)
