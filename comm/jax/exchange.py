"""The exchange inside `jax.shard_map`: sums over devices, for all of them or each its share.

    quantize     each device its own values, with what it lost of them before
    all-to-all   each chunk to the device that sums it
    sum          in float32, in the order of the devices
    quantize     the sums, with what was lost of them before  }
    gather       each device's sums to all                    }  of an all-reduce only
    read

`comm.torch.exchange` is the twin. There is one part for each piece of a vector, and what overlaps
what is left to XLA: collectives of two pieces need not wait for each other.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from comm.compression import Compression, pieces
from comm.jax.mesh_axis import AxisName, is_stochastic
from comm.jax.seeds import quantization_seed
from kernels.quantize import jax_op

MaybeArray: TypeAlias = jax.Array | None


class Plan(NamedTuple):
    """What all pieces of a call share."""

    axis_name: AxisName
    compression: Compression
    average: bool
    step: int | jax.Array
    offset: int | jax.Array = 0  # of the vector's first value in a longer one

    @property
    def world_size(self) -> int:
        """Devices along the axis."""
        return lax.axis_size(self.axis_name)

    @property
    def multiplier(self) -> float:
        """Of the sums."""
        return 1 / self.world_size if self.average else 1.0

    def seed(self, hop: int) -> jax.Array:
        """Returns the seed of this device's quantizations before (0) and after (1) the sums."""
        # Rank 0 whoever sums: the noise of an element depends on nothing but its index.
        rank = 0 if hop else lax.axis_index(self.axis_name)
        return quantization_seed(self.compression, self.step, hop, rank)

    def place(self, start: int) -> jax.Array:
        """Returns the index of a piece's first value, for stochastic rounding, uint32."""
        # Wraps only where it does not count; see `mesh_axis.check_collective`.
        return jnp.uint32(start & 0xFFFFFFFF) + jnp.asarray(self.offset).astype(jnp.uint32)


def all_reduce(
    x: jax.Array, local: MaybeArray, owned: MaybeArray, plan: Plan
) -> tuple[jax.Array, MaybeArray, MaybeArray]:
    """Sums a vector over the devices, piece by piece.

    Args:
        x: [size], not empty.
        local: Residual [size] of it, or None.
        owned: Residual of the sums that this device makes, or None.
        plan: Of the call.

    Returns:
        The sum, and the new residuals.
    """
    codec = plan.compression.codec
    totals, locals_, owneds, owned_start = [], [], [], 0
    for start, stop in pieces(plan.compression, x.size):
        chunk_size = codec.chunk_size(stop - start, plan.world_size)
        owned_stop = owned_start + chunk_size
        rest = None if local is None else local[start:stop]
        received, rest = _scatter(x[start:stop], rest, start, chunk_size, plan)
        locals_.append(rest)
        rest = None if owned is None else owned[owned_start:owned_stop]
        payloads, rest = _sum_and_gather(received, rest, start, chunk_size, plan)
        owneds.append(rest)
        totals.append(
            jax_op.dequantize(payloads, stop - start, codec, chunk_size=chunk_size, dtype=x.dtype)
        )
        owned_start = owned_stop
    return jnp.concatenate(totals), _joined(locals_), _joined(owneds)


def _scatter(
    x: jax.Array, residual: MaybeArray, start: int, chunk_size: int, plan: Plan
) -> tuple[jax.Array, MaybeArray]:
    """Quantizes the device's values and sends each chunk to the device that sums it.

    Returns:
        The payloads of the chunk that this device sums, a row from each, and the new residual.
    """
    payload, residual = _paired(
        jax_op.quantize(
            x,
            plan.compression.codec,
            num_chunks=plan.world_size,
            chunk_size=chunk_size,
            residual=residual,
            seed=plan.seed(0),
            offset=plan.place(start),
        )
    )
    return lax.all_to_all(payload, plan.axis_name, 0, 0, tiled=True), residual


def _sum_and_gather(
    received: jax.Array, residual: MaybeArray, start: int, chunk_size: int, plan: Plan
) -> tuple[jax.Array, MaybeArray]:
    """Sums the chunk of this device, quantizes the sum and sends it to all.

    Returns:
        The payloads of all sums, a row from each device, and the new residual.
    """
    rank = lax.axis_index(plan.axis_name).astype(jnp.uint32)
    payload, residual = _paired(
        jax_op.reduce_quantize(
            received,
            chunk_size,
            plan.compression.codec,
            multiplier=plan.multiplier,
            residual=residual,
            seed=plan.seed(1),
            offset=plan.place(start) + rank * jnp.uint32(chunk_size),
        )
    )
    # All get the same bytes, and this lets the type of the result say so.
    return lax.all_gather(payload, plan.axis_name, tiled=True, to="invarying"), residual


def reduce_scatter(x: jax.Array, residual: MaybeArray, plan: Plan) -> tuple[jax.Array, MaybeArray]:
    """Sums over the devices, each its own row.

    Args:
        x: [world_size, share_size], not empty.
        residual: Of it, or None.
        plan: Of the call.

    Returns:
        The sum [share_size] of this device's row, and the new residual.
    """
    codec, share_size = plan.compression.codec, x.shape[1]
    sums, rests = [], []
    for start, stop in _runs(share_size, plan):
        offsets = start + share_size * np.arange(plan.world_size, dtype=np.uint32)
        rest = None if residual is None else residual[:, start:stop]
        received, rest = _scatter_rows(x[:, start:stop], rest, offsets, plan)
        multiplier = plan.multiplier
        sums.append(
            jax_op.reduce(received, stop - start, codec, multiplier=multiplier, dtype=x.dtype)
        )
        rests.append(rest)
    return jnp.concatenate(sums), _joined(rests, axis=1)


def _runs(share_size: int, plan: Plan) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) in each share: whole blocks, of all shares together a piece."""
    block_size = plan.compression.codec.block_size
    step = max(plan.compression.piece_size // plan.world_size // block_size, 1) * block_size
    for start in range(0, share_size, step):
        yield start, min(start + step, share_size)


def _scatter_rows(
    x: jax.Array, residual: MaybeArray, offsets: np.ndarray, plan: Plan
) -> tuple[jax.Array, MaybeArray]:
    """Quantizes the device's values and sends each row to the device that sums it.

    Args:
        x: [world_size, size], a row of each share.
        residual: Of it, or None.
        offsets: [world_size], where each row begins in the whole vector.
        plan: Of the call.

    Returns:
        The payloads of the row that this device sums, one from each, and the new residual.
    """
    codec, seed = plan.compression.codec, plan.seed(0)

    def quantize(x: jax.Array, residual: MaybeArray, offset: Any) -> Any:
        return _paired(
            jax_op.quantize(
                x,
                codec,
                num_chunks=math.prod(x.shape[:-1]),
                chunk_size=x.shape[-1],
                residual=residual,
                seed=seed,
                offset=offset,
            )
        )

    if is_stochastic(codec):
        # Noise is counted along the whole vector, in which rows are apart.
        rows = (x, residual, jnp.asarray(offsets))
        payload, residual = lax.map(lambda row: quantize(*row), rows)
        payload = payload[:, 0]
    else:
        payload, residual = quantize(x, residual, 0)
    return lax.all_to_all(payload, plan.axis_name, 0, 0, tiled=True), residual


def _paired(result: Any) -> tuple[jax.Array, MaybeArray]:
    """Returns a payload and the new residual, None without an old one."""
    return result if isinstance(result, tuple) else (result, None)


def _joined(residuals: list[MaybeArray], axis: int = 0) -> MaybeArray:
    """Returns residuals one after another, None if there are none."""
    held = [residual for residual in residuals if residual is not None]
    return jnp.concatenate(held, axis=axis) if held else None
