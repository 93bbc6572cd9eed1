"""What an optimizer keeps for a tensor of weights, in float32 or in 8 bits.

In 8 bits a slot is a payload of `kernels.quantize`, in the codec of `kernels.optimizer_step`; one
that holds no negative numbers is stored as its roots, which halves the exponents it needs.

Of weights that are sharded, so is every slot. A rank's payload is of the weights that it holds, and
all of them are one DTensor `[ranks, bytes]`, so that a sharded checkpoint keeps each, and refuses
another number of ranks.
"""

import math

import torch
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard

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


def local_slot(slot: torch.Tensor, param: torch.Tensor) -> torch.Tensor:
    """What this rank holds of a slot, in the same memory.

    Args:
      slot: Of a parameter that may be sharded.
      param: What this rank holds of that.
    """
    own = local(slot)
    if isinstance(slot, DTensor) and own.dtype == torch.uint8:
        return own.flatten()[: _CODEC.payload_bytes(param.numel())]
    return own


def new_slot(param: torch.Tensor, bits: int) -> torch.Tensor:
    """Returns zeros for a parameter.

    Args:
      param: The weights.
      bits: 32 or 8; the latter only for those of which a rank holds not few.

    Returns:
      Like the parameter, float32, or float64 for one of that; or uint8, a payload, or the ranks'.
    """
    size = _most_weights(param)
    if bits == 8 and size >= contract.MIN_BYTES_SIZE:
        payload = local(param).new_zeros(_CODEC.payload_bytes(size), dtype=torch.uint8)
        return _of_all_ranks(payload, param) if isinstance(param, DTensor) else payload
    return torch.zeros_like(param, dtype=arithmetic_dtype(param))


def check(slot: torch.Tensor, param: torch.Tensor, name: str) -> None:
    """Refuses a slot that is not of this parameter.

    Args:
      slot: What a rank holds of it.
      param: Likewise.
      name: The parameter's, for messages.

    Raises:
      ValueError: It is of another shape, or as bytes of another number of blocks; of another dtype
        or on another device.
    """
    is_payload = slot.dtype == torch.uint8
    shape = (_CODEC.payload_bytes(param.numel()),) if is_payload else tuple(param.shape)
    if (
        tuple(slot.shape) != shape
        or slot.device != param.device
        or not (is_payload or slot.dtype in _WIDE)
    ):
        raise ValueError(
            f"{name} has state of shape {tuple(slot.shape)}, {slot.dtype} on {slot.device}, where "
            f"{shape}, float32, float64 or a payload is expected: load the state of this model, "
            "and make the optimizer after the model is moved"
        )


def _most_weights(param: torch.Tensor) -> int:
    """How many weights a rank holds at the most."""
    shape = list(param.shape)
    if isinstance(param, DTensor):
        for ranks, placement in zip(param.device_mesh.shape, param.placements, strict=True):
            if isinstance(placement, Shard):
                shape[placement.dim] = -(-shape[placement.dim] // ranks)
    return math.prod(shape)


def _of_all_ranks(payload: torch.Tensor, param: DTensor) -> DTensor:
    """Returns `[ranks, bytes]`, with a dimension of ranks for each of the mesh that shards."""
    placements: list[Placement] = []
    leading = 0
    for placement in param.placements:
        if isinstance(placement, Shard):
            placements.append(Shard(leading))
            leading += 1
        else:
            placements.append(Replicate())
    own = payload.view(*[1] * leading, -1)
    return DTensor.from_local(own, param.device_mesh, placements, run_check=False)


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
