"""The compressed all-reduce: values to the devices that sum them, and sums from them to all.

`comm.torch.two_hops` is its twin.
"""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from comm.compression import Compression, pieces
from comm.jax.mesh_axis import AxisName
from comm.jax.seeds import quantization_seed
from kernels.quantize import jax_op

MaybeArray: TypeAlias = jax.Array | None


class How(NamedTuple):
    """What is the same for all pieces of a collective."""

    axis_name: AxisName
    compression: Compression
    multiplier: float
    step: int | jax.Array
    offset: int | jax.Array = 0  # of the vector's first value in a longer one


def all_reduce(
    x: jax.Array, local: MaybeArray, owned: MaybeArray, how: How
) -> tuple[jax.Array, MaybeArray, MaybeArray]:
    """Sums a vector over the devices, piece by piece.

    Args:
        x: [size], not empty.
        local: Residual [size] of it, or None.
        owned: Residual of the sums that this device makes, or None.
        how: Of all pieces.

    Returns:
        The sum, and the new residuals.
    """
    world_size = lax.axis_size(how.axis_name)
    totals, locals_, owneds, owned_start = [], [], [], 0
    for start, stop in pieces(how.compression, x.size):
        chunk_size = how.compression.codec.chunk_size(stop - start, world_size)
        owned_stop = owned_start + chunk_size
        rest = None if local is None else local[start:stop]
        received, rest = _scatter(x[start:stop], rest, start, chunk_size, how)
        locals_.append(rest)
        rest = None if owned is None else owned[owned_start:owned_stop]
        payloads, rest = _sum_and_gather(received, rest, start, chunk_size, how)
        owneds.append(rest)
        codec, dtype = how.compression.codec, x.dtype
        totals.append(
            jax_op.dequantize(payloads, stop - start, codec, chunk_size=chunk_size, dtype=dtype)
        )
        owned_start = owned_stop
    return jnp.concatenate(totals), joined(locals_), joined(owneds)


def _scatter(
    x: jax.Array, residual: MaybeArray, start: int, chunk_size: int, how: How
) -> tuple[jax.Array, MaybeArray]:
    """Quantizes the device's values and sends each chunk to the device that sums it.

    Returns:
        The payloads of the chunk that this device sums, a row from each, and the new residual.
    """
    rank = lax.axis_index(how.axis_name)
    payload, residual = paired(
        jax_op.quantize(
            x,
            how.compression.codec,
            num_chunks=lax.axis_size(how.axis_name),
            chunk_size=chunk_size,
            residual=residual,
            seed=quantization_seed(how.compression, how.step, 0, rank),
            offset=_place(start, how),
        )
    )
    return lax.all_to_all(payload, how.axis_name, 0, 0, tiled=True), residual


def _sum_and_gather(
    received: jax.Array, residual: MaybeArray, start: int, chunk_size: int, how: How
) -> tuple[jax.Array, MaybeArray]:
    """Sums the chunk of this device, quantizes the sum and sends it to all.

    Returns:
        The payloads of all sums, a row from each device, and the new residual.
    """
    rank = lax.axis_index(how.axis_name).astype(jnp.uint32)
    payload, residual = paired(
        jax_op.reduce_quantize(
            received,
            chunk_size,
            how.compression.codec,
            multiplier=how.multiplier,
            residual=residual,
            # Rank 0 whoever sums: the noise of an element depends on nothing but its index.
            seed=quantization_seed(how.compression, how.step, 1, 0),
            offset=_place(start, how) + rank * jnp.uint32(chunk_size),
        )
    )
    # All get the same bytes, and this lets the type of the result say so.
    return lax.all_gather(payload, how.axis_name, tiled=True, to="invarying"), residual


def _place(start: int, how: How) -> jax.Array:
    """Returns the index of a piece's first value, for stochastic rounding, uint32."""
    # Wraps only where it does not count; see `mesh_axis.check_collective`.
    return jnp.uint32(start & 0xFFFFFFFF) + jnp.asarray(how.offset).astype(jnp.uint32)


def paired(result: Any) -> tuple[jax.Array, MaybeArray]:
    """Returns a payload and the new residual, None without an old one."""
    return result if isinstance(result, tuple) else (result, None)


def joined(residuals: list[MaybeArray], axis: int = 0) -> MaybeArray:
    """Returns residuals one after another, None if there are none."""
    held = [residual for residual in residuals if residual is not None]
    return jnp.concatenate(held, axis=axis) if held else None
