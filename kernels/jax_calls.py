"""What the JAX side of every operation needs: places, mesh axes, shapes and attributes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def device(x: jax.Array) -> str:
    """The platform of an array; of a traced one, the platform that will run it by default."""
    if isinstance(x, jax.core.Tracer):
        platform = jax.default_backend()
    else:
        platform = next(iter(x.devices())).platform
    return "cuda" if platform == "gpu" else platform


def vary_alike(arrays: Any) -> Any:
    """Under shard_map, makes all arrays vary over the mesh axes over which one of them does."""
    axes = frozenset().union(*(_varying(x) for x in jax.tree.leaves(arrays)))

    def vary(x: jax.Array) -> jax.Array:
        missing = tuple(axes - _varying(x))
        return jax.lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(vary, arrays)


def _varying(x: jax.Array) -> frozenset[str]:
    return jax.typeof(x).manual_axis_type.varying


def attributes(options: Any) -> dict[str, Any]:
    """The fields of a NamedTuple as attributes of a native call, 64 bits wide."""
    wide = {float: np.float64, int: np.int64, bool: np.bool_}
    return {name: wide[type(value)](value) for name, value in options._asdict().items()}


def sum_dtype(x: jax.Array) -> Any:
    """The type of the sums over values of x."""
    return jnp.float64 if x.dtype == jnp.float64 else jnp.float32


def like(
    x: jax.Array, shape: tuple[int, ...] | None = None, dtype: Any = None
) -> jax.ShapeDtypeStruct:
    """Of the shape and dtype of x unless given, varying over the mesh axes that x varies over."""
    kind = jax.typeof(x)
    mesh = kind.sharding.mesh
    return jax.ShapeDtypeStruct(
        x.shape if shape is None else shape,
        dtype or x.dtype,
        sharding=None if mesh.empty else jax.sharding.NamedSharding(mesh, jax.P()),
        manual_axis_type=kind.manual_axis_type,
    )
