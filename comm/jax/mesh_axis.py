"""What collectives over an axis of a mesh share."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from comm.compression import Compression
from kernels.quantize.contract import ROUNDINGS, Codec

# The name of a mesh axis, or of several that count as one, the last running fastest.
AxisName = str | tuple[str, ...]

# Places in a vector are counted in uint32, the widest integers that JAX has by default.
_MAX_STOCHASTIC_SIZE = 2**32


def vary(arrays: Any, axis_name: AxisName) -> Any:
    """Makes arrays count as different on each device along the axis, whether they are or not."""
    axes = (axis_name,) if isinstance(axis_name, str) else axis_name

    def cast(x: jax.Array) -> jax.Array:
        missing = tuple(axis for axis in axes if axis not in varying_axes(x))
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(cast, arrays)


def varying_axes(x: jax.Array) -> frozenset[str]:
    """Returns the mesh axes along which an array differs by its type; none without `check_vma`."""
    return jax.typeof(x).manual_axis_type.varying


def is_stochastic(codec: Codec) -> bool:
    """Whether places in a vector count."""
    return ROUNDINGS[codec.rounding] == "stochastic"


def check_collective(compression: Compression, size: int) -> None:
    """Raises ValueError unless `size` values can be sent at once so."""
    if compression.ranks_per_node not in (None, 1):
        raise ValueError(
            f"ranks_per_node {compression.ranks_per_node} is not heeded here, only by "
            "comm.jax.transformation.compress_gradients: make the fast links a mesh axis of "
            "their own, and see comm.jax.nodes"
        )
    if is_stochastic(compression.codec) and size > _MAX_STOCHASTIC_SIZE:
        raise ValueError(
            f"stochastic rounding takes at most {_MAX_STOCHASTIC_SIZE} values at once, got {size}: "
            "cut the array"
        )


def check_residual(name: str, residual: jax.Array, size: int) -> None:
    """Raises TypeError or ValueError unless a device's residual is float32 [size]."""
    if residual.dtype != jnp.float32:
        raise TypeError(f"{name} must be float32, got {residual.dtype}")
    if residual.shape != (size,):
        raise ValueError(
            f"{name} must be [{size}] for this array, compression and number of devices, got "
            f"{list(residual.shape)}"
        )
