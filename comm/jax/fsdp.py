"""Fully sharded data parallelism: parameters in shares, gradients compressed on the way back.

    residuals = init_residuals(params, compression, world_size)     # [world_size, ...]: P("data")
    shares = shard(params, world_size)                              # [world_size, ...]: P("data")

    def loss(shares, residuals, batch, step):                       # inside jax.shard_map
        params = gather(shares, residuals, shapes, "data", compression, step=step)
        return loss_of(params, batch)

    grads, residuals = jax.grad(loss, argnums=(0, 1))(shares, residuals, batch, step)

`gather` hands out whole parameters. Its derivative is the compressed reduce-scatter: the gradient
of a share is the mean of all devices' gradients, and the "gradient" of a residual is the residual
for the next step. So a gradient is sent as soon as it is there, layer by layer if `gather` is
called layer by layer, under `jax.checkpoint` and in `jax.lax.scan` too, and is never held whole for
longer. Call `gather` once a step for each share: gradients of several calls are added up, and
residuals must not be.

Reference: Rajbhandari et al., "ZeRO", 2020, arXiv:1910.02054.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from comm.compression import Compression, compresses
from comm.jax.collectives import compressed_psum_scatter
from comm.jax.mesh_axis import AxisName

# A tree of arrays or, for shapes, of `jax.ShapeDtypeStruct`.
Tree = Any


def shard(params: Tree, world_size: int) -> Tree:
    """Returns [world_size, share_size] of each parameter: its values in order, then zeros."""

    def cut(param: jax.Array) -> jax.Array:
        padding = world_size * _share_size(param.shape, world_size) - param.size
        return jnp.pad(param.ravel(), (0, padding)).reshape(world_size, -1)

    return jax.tree.map(cut, params)


def unshard(shares: Tree, shapes: Tree) -> Tree:
    """Undoes `shard`: for checkpoints and on the host."""
    return jax.tree.map(
        lambda share, like: share.ravel()[: math.prod(like.shape)].reshape(like.shape),
        shares,
        shapes,
    )


def init_residuals(shapes: Tree, compression: Compression, world_size: int) -> Tree:
    """Returns float32 [world_size, world_size * share_size] for each parameter that is compressed.

    A row is what a device has yet to send of its gradient of the whole parameter. There is None for
    parameters that are not compressed, and for all without error feedback.
    """

    def residual(like: jax.Array) -> jax.Array | None:
        if not compression.error_feedback or not compresses(compression, like.shape):
            return None
        size = world_size * _share_size(like.shape, world_size)
        return jnp.zeros((world_size, size), jnp.float32)

    return jax.tree.map(residual, shapes)


def resize_residuals(residuals: Tree, shapes: Tree, world_size: int) -> Tree:
    """Returns residuals for another number of devices, on the host: for each the old ones' mean."""

    def resize(like: jax.Array, residual: jax.Array | None) -> np.ndarray | None:
        if residual is None:
            return None
        size = math.prod(like.shape)
        mean = np.asarray(residual)[:, :size].mean(0, dtype=np.float64).astype(np.float32)
        padding = world_size * _share_size(like.shape, world_size) - size
        return np.broadcast_to(np.pad(mean, (0, padding)), (world_size, size + padding))

    return jax.tree.map(resize, shapes, residuals)


def gather(
    shares: Tree,
    residuals: Tree,
    shapes: Tree,
    axis_name: AxisName,
    compression: Compression,
    *,
    step: int | jax.Array = 0,
    average: bool = True,
) -> Tree:
    """Returns whole parameters, whose gradients are compressed; see the head of this file.

    Args:
        shares: Of `shard`, this device's row [1, share_size] of each.
        residuals: Of `init_residuals`, this device's row of each.
        shapes: The parameters' shapes and dtypes.
        axis_name: The mesh axis, or a tuple of several.
        compression: How. What is not compressed is summed in float32.
        step: Of training; seeds stochastic rounding. May be traced.
        average: False: gradients are summed over devices instead of averaged.
    """
    step = jnp.asarray(step)

    def whole(like: jax.Array, share: jax.Array, residual: jax.Array | None) -> jax.Array:
        shape = tuple(like.shape)
        return _gather(share, residual, step, shape, axis_name, compression, average)

    return jax.tree.map(whole, shapes, shares, residuals)


def _share_size(shape: tuple[int, ...], world_size: int) -> int:
    return -(-math.prod(shape) // world_size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6))
def _gather(
    share: jax.Array,
    residual: jax.Array | None,
    step: jax.Array,
    shape: tuple[int, ...],
    axis_name: AxisName,
    compression: Compression,
    average: bool,
) -> jax.Array:
    flat = lax.all_gather(share[0], axis_name, tiled=True)
    return flat[: math.prod(shape)].reshape(shape)


def _gather_fwd(share, residual, step, *how):  # type: ignore[no-untyped-def]
    return _gather(share, residual, step, *how), (residual, step)


def _gather_bwd(shape, axis_name, compression, average, kept, grad):  # type: ignore[no-untyped-def]
    residual, step = kept
    world_size = lax.axis_size(axis_name)
    padding = world_size * _share_size(shape, world_size) - grad.size
    flat = jnp.pad(grad.ravel(), (0, padding))
    if not compresses(compression, shape):
        total = lax.psum_scatter(flat.astype(jnp.float32), axis_name, tiled=True)
        total = (total / world_size if average else total).astype(grad.dtype)
    elif residual is None:
        total = compressed_psum_scatter(flat, axis_name, compression, average=average, step=step)
    else:
        total, residual = compressed_psum_scatter(
            flat, axis_name, compression, average=average, residual=residual[0], step=step
        )
        residual = residual[None]
    return total[None], residual, None


_gather.defvjp(_gather_fwd, _gather_bwd)
