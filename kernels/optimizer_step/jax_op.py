"""A fused step of an optimizer for JAX: one XLA FFI call for all tensors.

`optim.jax.fused` is what to use; this is what it calls.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from kernels import cubin_loader, jax_calls
from kernels.dispatch import UnsupportedKernelError
from kernels.optimizer_step import _native, contract

# The gradient's place among the arrays of a tensor: it is only read.
_GRAD = 1

# Of each platform; Triton's interpreter is not for JAX.
_BACKENDS = {"cpu": "cpu", "cuda": "triton"}

for _target, _platform, _handler in _native.xla_handlers():
    jax.ffi.register_ffi_target(_target, _handler, platform=_platform)


def have_kernels(params: Sequence[jax.Array]) -> bool:
    """Whether kernels update all these weights, by their dtypes and devices.

    Raises:
      UnsupportedKernelError: `HPC_KERNEL_BACKEND` is no backend's name.
    """
    return _first_without_kernel(params) is None


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
      grads: their gradients, of the same shapes, and of dtypes whose values the weights' dtypes
        hold.
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
      UnsupportedKernelError (a ValueError): no kernel is there for a dtype and device; see
        `have_kernels`.
      ValueError: an array has another shape or dtype, or there are more or fewer numbers.
    """
    _check_numbers(rule, step, scalars, hyperparameters)
    if not len(params) == len(grads) == len(slots) == len(decays):
        raise ValueError(
            f"expected gradients, slots and decays of {len(params)} tensors, got {len(grads)}, "
            f"{len(slots)} and {len(decays)}"
        )
    _check_kernels(params)
    for index, (param, grad, kept) in enumerate(zip(params, grads, slots, strict=True)):
        _check_grad(index, param, grad)
        _check_slots(index, param, kept, len(slots[0]))
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


def _check_numbers(
    rule: str, step: jax.Array, scalars: Sequence[jax.Array], hyperparameters: Sequence[float]
) -> None:
    for kind, given, names in (
        ("scalars", scalars, contract.RULES[rule].scalars),
        ("hyperparameters", hyperparameters, contract.RULES[rule].hyperparameters),
    ):
        if len(given) != len(names):
            raise ValueError(f"{rule} takes {len(names)} {kind}, {names}, got {len(given)}")
    if step.dtype != jnp.int32 or step.ndim:
        raise ValueError(f"expected a step of int32 [], got {_kind(step)}")


def _first_without_kernel(params: Sequence[jax.Array]) -> jax.Array | None:
    """Asks for a backend once for each device."""

    @functools.cache
    def has_backend(device: str) -> bool:
        backend = contract.backend(device)
        return backend is not None and backend == _BACKENDS.get(device)

    for param in params:
        if param.dtype.name not in contract.DTYPES or not has_backend(jax_calls.device(param)):
            return param
    return None


def _check_kernels(params: Sequence[jax.Array]) -> None:
    if (param := _first_without_kernel(params)) is not None:
        raise UnsupportedKernelError(
            f"optimizer_step does not support {param.dtype.name} on {jax_calls.device(param)}; "
            f"supported: {', '.join(contract.DTYPES)} on cpu and cuda"
        )
    if any(jax_calls.device(param) == "cuda" for param in params):
        cubin_loader.ensure_registered(_native)


def _check_grad(index: int, param: jax.Array, grad: jax.Array) -> None:
    if grad.shape != param.shape:
        raise ValueError(
            f"tensor {index}: expected a gradient of the weights' shape {list(param.shape)}, got "
            f"{list(grad.shape)}"
        )
    if jnp.promote_types(grad.dtype, param.dtype) != param.dtype:
        raise ValueError(
            f"tensor {index}: weights of {param.dtype} would round a gradient of {grad.dtype}, "
            "which may not even be in their range; cast it, or use optim.jax.transformation"
        )


def _check_slots(index: int, param: jax.Array, slots: Sequence[jax.Array], num_slots: int) -> None:
    floats = f"float32 {list(param.shape)}"
    payload = f"uint8 [{contract.CODEC.payload_bytes(param.size)}]"
    given = [_kind(slot) for slot in slots]
    if given not in ([floats] * num_slots, [payload] * num_slots):
        raise ValueError(
            f"tensor {index}: expected {num_slots} slots, all {floats} or all {payload}, got "
            f"{', '.join(given)}"
        )


def _kind(x: jax.Array) -> str:
    return f"{x.dtype.name} {list(x.shape)}"
