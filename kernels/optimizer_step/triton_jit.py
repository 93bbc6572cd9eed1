"""Runs the Triton kernel of an optimizer's step through Triton itself, on torch tensors.

For tests and for work on the kernel: with TRITON_INTERPRET=1 on CPU tensors, otherwise compiled
just in time for CUDA tensors. `torch_op` and `jax_op` launch the same variants from cubins.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton

from kernels.optimizer_step import contract, triton_kernels
from kernels.quantize.triton_tiles import TILE

_VARIANTS = {variant.name: variant for variant in triton_kernels.VARIANTS}

_MAX_HYPERPARAMETERS = 4


def step(
    numbers: torch.Tensor,
    param: torch.Tensor,
    grad: torch.Tensor,
    slots: Sequence[torch.Tensor],
    place: int,
    *,
    rule: int,
    decay_is_proximal: bool,
    weight_decay: float,
    hyperparameters: Sequence[float],
) -> None:
    """Updates the weights and slots of one tensor in place.

    Args:
      numbers: int32, on the device of the tensors: the step, and from the fourth on the bits of
        the rate and the scalars.
      param: as of `torch_op.Batch.take`, and so are the next three.
      grad: likewise.
      slots: likewise.
      place: likewise.
      rule: index in `contract.RULES`.
      decay_is_proximal: see `optim.algorithm`.
      weight_decay: likewise.
      hyperparameters: as `contract.RULES` names them.
    """
    if not param.numel():
        return
    weights = _exact(param)
    kind = "bytes" if slots[0].dtype == torch.uint8 else "floats"
    dtype = str(weights.dtype).removeprefix("torch.")
    variant = _VARIANTS[f"{contract.RULE_NAMES[rule]}_{dtype}_{kind}"]

    padded = [*hyperparameters, *[0.0] * (_MAX_HYPERPARAMETERS - len(hyperparameters))]
    arguments: dict[str, Any] = {f"hyper{i}": value for i, value in enumerate(padded)}
    arguments |= {f"rest{i}": 1.0 - value for i, value in enumerate(padded)}
    arguments |= {"weight_decay": weight_decay, "is_proximal": int(decay_is_proximal)}
    arguments |= {"step_ptr": numbers[:1], "numbers_ptr": numbers[4:].view(torch.float32)}
    arguments |= {f"slot{k}_ptr": slots[min(k, len(slots) - 1)] for k in range(4)}
    arguments |= {"param_ptr": weights, "grad_ptr": _exact(grad)}
    arguments |= {"size": param.numel(), "index": place}
    variant.kernel[(triton.cdiv(param.numel(), TILE.value),)](
        **{name: arguments[name] for name in variant.signature},
        **variant.constexprs,
        num_warps=variant.num_warps,
        num_stages=variant.num_stages,
        **variant.options,
    )
    if weights is not param:
        param.copy_(weights)


def _exact(x: torch.Tensor) -> torch.Tensor:
    """A bfloat16 as float32 where it is interpreted: the interpreter converts neither exactly."""
    return x.float() if x.dtype == torch.bfloat16 and x.device.type == "cpu" else x
