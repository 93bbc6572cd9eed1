"""The compressed sum of devices in nodes: float32 inside a node, 8 bits between nodes.

    1. inside each node, a reduce-scatter: device i of a node gets share i of the node's sum
    2. between the devices i of all nodes, the compressed sum of share i
    3. inside each node, an all-gather of the shares

`comm.torch.nodes` is its twin. Nodes and the devices of each are two axes of the mesh.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from comm.compression import Compression
from comm.jax.collectives import Feedback, compressed_psum, owned_size
from comm.jax.mesh_axis import AxisName, vary


def has_nodes(compression: Compression) -> bool:
    """Returns whether there are two levels of links."""
    return compression.ranks_per_node not in (None, 1)


def share_size(compression: Compression, size: int) -> int:
    """Returns how many of `size` values each device of a node sums, padding included."""
    return compression.codec.chunk_size(size, compression.ranks_per_node or 1)


def owned_share_size(compression: Compression, size: int, world_size: int) -> int:
    """Returns how many sums over nodes of a vector of `size` values each device makes."""
    num_nodes = world_size // (compression.ranks_per_node or 1)
    return owned_size(compression, share_size(compression, size), num_nodes)


def psum_of_nodes(
    x: jax.Array,
    axis_name: AxisName,
    compression: Compression,
    *,
    average: bool,
    feedback: Feedback | None,
    step: int | jax.Array,
) -> tuple[jax.Array, Feedback | None]:
    """Sums a vector over all devices of all nodes.

    Args:
        x: [size], of a dtype that `compressed_psum` takes; sums are made in float32.
        axis_name: The axis of the nodes and that of the devices of a node, in this order.
        compression: Its `ranks_per_node` is the size of the second axis.
        average: Return the mean instead of the sum.
        feedback: Of this device's share, in units of the node's sum or mean: `local` is
            [share_size(...)], `owned` [owned_share_size(...)]. None: without error feedback.
        step: Seeds stochastic rounding.

    Returns:
        The sum, the same bits on every device, and the feedback for the next step.

    Raises:
        ValueError: The mesh has no two such axes.
    """
    between, inside = _axes(axis_name, compression)
    per_node = lax.axis_size(inside)
    size = share_size(compression, x.size)
    if size == 0:
        return lax.psum(x, axis_name), feedback
    padded = jnp.pad(x.astype(jnp.float32), (0, per_node * size - x.size))
    share = lax.psum_scatter(vary(padded, axis_name), inside, tiled=True)
    if average:
        share = share / per_node
    result = compressed_psum(
        share,
        between,
        dataclasses.replace(compression, ranks_per_node=None),
        average=average,
        feedback=feedback,
        step=step,
        offset=lax.axis_index(inside) * size,
    )
    total, feedback = result if isinstance(result, tuple) else (result, None)
    whole = lax.all_gather(total, inside, tiled=True, to="invarying")
    return whole[: x.size].astype(x.dtype), feedback


def _axes(axis_name: AxisName, compression: Compression) -> tuple[str, str]:
    axes = (axis_name,) if isinstance(axis_name, str) else axis_name
    if len(axes) != 2 or lax.axis_size(axes[1]) != compression.ranks_per_node:
        sizes = {axis: lax.axis_size(axis) for axis in axes}
        raise ValueError(
            f"ranks_per_node {compression.ranks_per_node} needs two mesh axes, of the nodes and of "
            f"the {compression.ranks_per_node} devices of each, got {sizes}"
        )
    return axes[0], axes[1]
