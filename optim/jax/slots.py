"""What an optimizer keeps for an array of weights, in float32 or in 8 bits.

As `optim.torch.slots`, whose bytes are the same.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kernels.optimizer_step import contract
from kernels.quantize import jax_op as quantize

_CODEC = contract.CODEC


def arithmetic_dtype(param: jax.Array) -> jnp.dtype:
    """The dtype in which a parameter's steps are computed: float32 at least."""
    return jnp.promote_types(param.dtype, jnp.float32)


def new_slot(param: jax.Array, bits: int) -> jax.Array:
    """Returns zeros for a parameter.

    Args:
      param: The weights.
      bits: 32 or 8; the latter only for those that are not small.

    Returns:
      Like the parameter, float32, or float64 for one of that; or uint8, a payload.
    """
    if bits == 8 and param.size >= contract.MIN_BYTES_SIZE:
        return jnp.zeros(_CODEC.payload_bytes(param.size), jnp.uint8)
    return jnp.zeros_like(param, arithmetic_dtype(param))


def read(slot: jax.Array, param: jax.Array, *, is_square: bool) -> jax.Array:
    """Returns the values of a slot, like the parameter.

    Raises:
      ValueError: The slot is of another shape; or, as bytes, of another number of blocks.
    """
    is_payload = slot.dtype == jnp.uint8
    shape = (_CODEC.payload_bytes(param.size),) if is_payload else param.shape
    if slot.shape != shape:
        raise ValueError(
            f"a parameter of shape {param.shape} has state of shape {slot.shape}, where {shape} is "
            "expected: restore the state of this model"
        )
    if not is_payload:
        return slot
    values = quantize.dequantize(slot[None], param.size, _CODEC)
    if is_square:
        scales = quantize.scales(slot[None], param.size, _CODEC).ravel()
        least = jnp.repeat(scales * contract.LEAST, _CODEC.block_size)[: param.size]
        values = jnp.square(jnp.maximum(values, least))
    return values.reshape(param.shape).astype(arithmetic_dtype(param))


def written(
    slot: jax.Array, values: jax.Array, *, is_square: bool, seed: int | jax.Array
) -> jax.Array:
    """Returns a slot's new value.

    Args:
      slot: What it was.
      values: Like the parameter.
      is_square: Whether the slot holds no negative numbers; as it is read.
      seed: Of stochastic rounding; see `seed_of`.
    """
    if slot.dtype != jnp.uint8:
        return values.astype(slot.dtype)
    values = (jnp.sqrt(values) if is_square else values).astype(jnp.float32)
    return quantize.quantize(values, _CODEC, seed=seed).ravel()


def seed_of(step: jax.Array, index: int, slot: int) -> jax.Array:
    """As `kernels.optimizer_step.contract.seed`, of a step that may be traced."""
    rest = contract.seed(0, index, slot)
    return step.astype(jnp.uint32) * np.uint32(contract.seed(1, 0, 0)) + np.uint32(rest)
