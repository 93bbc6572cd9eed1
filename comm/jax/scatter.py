"""The compressed reduce-scatter: the same part of every share, to the device that keeps its sum.

`comm.torch.scatter` is its twin.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from comm.jax.mesh_axis import is_stochastic
from comm.jax.seeds import quantization_seed
from comm.jax.two_hops import How, MaybeArray, joined, paired
from kernels.quantize import jax_op


def reduce_scatter(x: jax.Array, residual: MaybeArray, how: How) -> tuple[jax.Array, MaybeArray]:
    """Sums over the devices, each its own row.

    Args:
        x: [world_size, share_size], not empty.
        residual: Of it, or None.
        how: Of all parts.

    Returns:
        The sum [share_size] of this device's row, and the new residual.
    """
    codec, (world_size, share_size) = how.compression.codec, x.shape
    sums, rests = [], []
    for start, stop in _parts(share_size, world_size, how):
        offsets = start + share_size * np.arange(world_size, dtype=np.uint32)
        rest = None if residual is None else residual[:, start:stop]
        received, rest = _scatter(x[:, start:stop], rest, offsets, how)
        multiplier, dtype = how.multiplier, x.dtype
        sums.append(
            jax_op.reduce(received, stop - start, codec, multiplier=multiplier, dtype=dtype)
        )
        rests.append(rest)
    return jnp.concatenate(sums), joined(rests, axis=1)


def _parts(share_size: int, world_size: int, how: How) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) in each share: whole blocks, of all shares together a piece."""
    block_size = how.compression.codec.block_size
    step = max(how.compression.piece_size // world_size // block_size, 1) * block_size
    for start in range(0, share_size, step):
        yield start, min(start + step, share_size)


def _scatter(
    x: jax.Array, residual: MaybeArray, offsets: np.ndarray, how: How
) -> tuple[jax.Array, MaybeArray]:
    """Quantizes the device's values and sends each row to the device that sums it.

    Args:
        x: [world_size, size], a row of each share.
        residual: Of it, or None.
        offsets: [world_size], where each row begins in the whole vector.
        how: Of all parts.

    Returns:
        The payloads of the row that this device sums, one from each, and the new residual.
    """
    codec, rank = how.compression.codec, lax.axis_index(how.axis_name)
    seed = quantization_seed(how.compression, how.step, 0, rank)

    def quantize(x: jax.Array, residual: MaybeArray, offset: Any) -> Any:
        return paired(
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
    return lax.all_to_all(payload, how.axis_name, 0, 0, tiled=True), residual
