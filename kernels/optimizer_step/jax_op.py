"""A fused step of an optimizer for JAX: one XLA FFI call for all tensors.

`optim.jax.fused` is what to use; this is what it calls.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from kernels import cubin_loader, jax_calls
from kernels.dispatch import UnsupportedKernelError
from kernels.optimizer_step import _native, contract

# The gradient's place among the arrays of a tensor: it is only read.
_GRAD = 1

for _target, _platform, _handler in _native.xla_handlers():
    jax.ffi.register_ffi_target(_target, _handler, platform=_platform)


def step(
    rule: str,
    params: Sequence[jax.Array],
    grads: Sequence[jax.Array],
    slots: Sequence[Sequence[jax.Array]],
    *,
    step: jax.Array,
    rate: jax.Array,
    scalars: Sequence[jax.Array],
    weight_decay: float,
    decays: Sequence[bool],
    decay_is_proximal: bool,
    hyperparameters: Sequence[float],
) -> tuple[list[jax.Array], list[list[jax.Array]]]:
    """Returns new weights and slots, in one pass over memory; in that of the old, where donated.

    Args:
      rule: one of `contract.RULES`.
      params: the weights: float32, bfloat16 or float16.
      grads: their gradients, alike.
      slots: of each tensor the rule's, float32 like the weights, or uint8, payloads of one chunk in
        `contract.CODEC`.
      step: int32 [], the update's number, counted from 1.
      rate: float32 [], the learning rate.
      scalars: float32 [], as `contract.RULES` names them.
      weight_decay: see `optim.algorithm`.
      decays: for each tensor, whether it decays.
      decay_is_proximal: see `optim.algorithm`.
      hyperparameters: as `contract.RULES` names them.

    Raises:
      ValueError: no kernel is there for a dtype and device.
    """
    for param in params:
        device = jax_calls.device(param)
        # The interpreter is not for JAX.
        wanted = {"cpu": "cpu", "cuda": "triton"}.get(device)
        if wanted is None or contract.backend(device, param.dtype.name) != wanted:
            raise UnsupportedKernelError(
                f"optimizer_step does not support {param.dtype.name} on {device}; supported: "
                f"{', '.join(contract.DTYPES)} on cpu and cuda"
            )
        if device == "cuda":
            cubin_loader.ensure_registered(_native)
    tensors = [
        (param, grad.astype(param.dtype), *kept)
        for param, grad, kept in zip(params, grads, slots, strict=True)
    ]
    numbers = jnp.stack([jnp.float32(number) for number in (rate, *scalars)])
    numbers, step, tensors = jax_calls.vary_alike((numbers, step, tensors))
    inputs: list[jax.Array] = [numbers, step]
    outputs: list[jax.ShapeDtypeStruct] = []
    aliases: dict[int, int] = {}
    for tensor in tensors:
        for place, array in enumerate(tensor):
            if place != _GRAD:
                aliases[len(inputs)] = len(outputs)
                outputs.append(jax_calls.like(array))
            inputs.append(array)
    call = jax.ffi.ffi_call(
        "hpc_optimizer_step", outputs, input_output_aliases=aliases, vmap_method="sequential"
    )
    results = iter(
        call(
            *inputs,
            rule=np.int64(contract.RULE_NAMES.index(rule)),
            decay_is_proximal=np.int64(decay_is_proximal),
            weight_decay=np.float64(weight_decay),
            hyperparameters=np.array(hyperparameters, np.float64),
            decays=np.array(decays, np.int64),
        )
    )
    new = [[next(results) for _ in range(len(tensor) - 1)] for tensor in tensors]
    return [param for param, *_ in new], [kept for _, *kept in new]
