"""A fused step of an optimizer for PyTorch.

`optim.torch.optimizer` is what to use; this is what it calls.
"""

from collections.abc import Sequence

import torch

from kernels.optimizer_step import _native, contract

_DTYPES = {getattr(torch, name): index for index, name in enumerate(contract.DTYPES)}


def serves(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a kernel is there for weights of this dtype on this device."""
    return dtype in _DTYPES and contract.serves(device.type, contract.DTYPES[_DTYPES[dtype]])


def fits(param: torch.Tensor, grad: torch.Tensor, slots: Sequence[torch.Tensor]) -> bool:
    """Whether a kernel takes this tensor: of one dtype, and all dense in the same order.

    Slots of bytes are in the order of contiguous weights, whatever the weights' own is.
    """
    if grad.dtype != param.dtype:
        return False
    tensors = (param, grad, *slots)
    if all(x.is_contiguous() for x in tensors):
        return True
    channels_last = torch.channels_last
    return param.ndim == 4 and all(
        x.ndim == 4 and x.is_contiguous(memory_format=channels_last) for x in tensors
    )


def row(
    param: torch.Tensor,
    grad: torch.Tensor,
    slots: Sequence[torch.Tensor],
    index: int,
) -> list[int]:
    """Returns what `step` needs to know of one tensor. Its arguments must outlive that.

    Args:
      param: the weights, of a dtype that is served.
      grad: their gradient.
      slots: float32 like the weights, in the same order of memory; or uint8, payloads of one chunk
        in `contract.CODEC`. All of them fit.
      index: see `contract.seed`.
    """
    return [
        param.numel(),
        _DTYPES[param.dtype],
        slots[0].dtype == torch.uint8,
        True,  # decays
        index,
        param.data_ptr(),
        grad.data_ptr(),
        *[slot.data_ptr() for slot in slots],
    ]


def step(
    rule: str,
    rows: Sequence[Sequence[int]],
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
      rows: of `row`.
      step: the update's number, counted from 1.
      rate: the learning rate.
      weight_decay: see `optim.algorithm`.
      decay_is_proximal: likewise.
      hyperparameters: as `contract.RULES` names them.
      scalars: likewise.

    Raises:
      KeyError, ValueError: no rule has this name, or it takes other numbers; nothing was changed.
    """
    _native.limit_threads(torch.get_num_threads())
    _native.step_cpu(
        rule=contract.RULE_NAMES.index(rule),
        decay_is_proximal=decay_is_proximal,
        step=step,
        rate=rate,
        weight_decay=weight_decay,
        hyperparameters=hyperparameters,
        scalars=scalars,
        rows=[number for row in rows for number in row],
    )
