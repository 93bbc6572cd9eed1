"""What an optimizer keeps for a tensor of weights, in float32 or in 8 bits.

In 8 bits a slot is a payload of `kernels.quantize`, in the codec of `kernels.optimizer_step`; one
that holds no negative numbers is stored as its roots, which halves the exponents it needs.
"""

import torch
from torch.distributed.tensor import DTensor

from kernels.optimizer_step import contract
from kernels.quantize import torch_op as quantize

_CODEC = contract.CODEC

# State and arithmetic of parameters of any other dtype are float32.
_WIDE = (torch.float32, torch.float64)


def arithmetic_dtype(param: torch.Tensor) -> torch.dtype:
    """The dtype in which a parameter's steps are computed."""
    return param.dtype if param.dtype in _WIDE else torch.float32


def local(x: torch.Tensor) -> torch.Tensor:
    """What this rank holds of a tensor that may be sharded, in the same memory."""
    return x.to_local() if isinstance(x, DTensor) else x


def new_slot(param: torch.Tensor, bits: int) -> torch.Tensor:
    """Returns zeros for a parameter.

    Args:
      param: The weights.
      bits: 32 or 8; the latter only for those that are not small.

    Returns:
      Like the parameter, float32, or float64 for one of that; or uint8, a payload of what this rank
      holds of it.
    """
    own = local(param)
    if bits == 8 and own.numel() >= contract.MIN_BYTES_SIZE:
        return own.new_zeros(_CODEC.payload_bytes(own.numel()), dtype=torch.uint8)
    return torch.zeros_like(param, dtype=arithmetic_dtype(param))


def read(slot: torch.Tensor, param: torch.Tensor, *, is_square: bool) -> torch.Tensor:
    """Returns the values of a slot, like the parameter."""
    if slot.dtype != torch.uint8:
        return slot
    values = quantize.dequantize(slot[None], param.numel(), _CODEC)
    if is_square:
        scales = quantize.scales(slot[None], param.numel(), _CODEC).flatten()
        least = (scales * contract.LEAST).repeat_interleave(_CODEC.block_size)
        values = torch.maximum(values, least[: param.numel()]).square()
    return values.view(param.shape).to(arithmetic_dtype(param))


def write(slot: torch.Tensor, values: torch.Tensor, *, is_square: bool, seed: int) -> None:
    """Sets a slot.

    Args:
      slot: What to set.
      values: Like the parameter.
      is_square: Whether the slot holds no negative numbers; as it is read.
      seed: Of stochastic rounding; see `kernels.optimizer_step.contract.seed`.
    """
    if slot.dtype != torch.uint8:
        slot.copy_(values)
        return
    values = (torch.sqrt(values) if is_square else values).float()
    payload = quantize.quantize(values.contiguous(), _CODEC, seed=seed)
    slot.copy_(payload.view(-1))
