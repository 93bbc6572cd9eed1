"""Compressed gradients as a link of an optax chain, for data parallelism.

    optimizer = optax.chain(compress_gradients(compression, "data", world_size), optax.adamw(1e-3))
    state = optimizer.init(params)
    specs = partition_specs(state, "data")

    def train_step(params, state, batch):
        local = jax.lax.pcast(params, "data", to="varying")  # to each device its own gradient
        updates, state = optimizer.update(jax.grad(loss)(local, batch), state, params)
        return optax.apply_updates(params, updates), state

    train_step = jax.jit(
        jax.shard_map(
            train_step, mesh=mesh, in_specs=(P(), specs, P("data")), out_specs=(P(), specs)
        )
    )

For parameters that are sharded too there is `comm.jax.fsdp`.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import PartitionSpec

from comm.compression import Compression, compresses, pieces
from comm.jax.collectives import Feedback, compressed_psum, owned_size
from comm.jax.mesh_axis import AxisName, varying_axes
from comm.jax.nodes import has_nodes, owned_share_size, psum_of_nodes, share_size
from comm.wire import Wire, all_reduce_bytes

_FLOAT32_BYTES = 4


class CompressionState(NamedTuple):
    """What `compress_gradients` carries from step to step.

    Attributes:
        step: int32 scalar, counted from 0.
        local: A tree like the parameters of float32 [world_size, *shape]: what each device has yet
            to send of its gradients. None where nothing is compressed or without error feedback.
            With nodes it is [world_size, share_size]: of a device's share of the node's vector.
        owned: Float32 [world_size, owned_size]: what each device has yet to send of the sums that
            it makes. None without error feedback.
    """

    step: jax.Array
    local: Any
    owned: jax.Array | None


def compress_gradients(
    compression: Compression, axis_name: AxisName, world_size: int, *, average: bool = True
) -> optax.GradientTransformation:
    """Returns a transformation that turns each device's gradients into their mean over all.

    `init` is called outside of `jax.shard_map` (under `jax.jit` with `out_shardings`, if the state
    is large), `update` inside, with the state cut as `partition_specs` says. Gradients that
    `comm.compression.compresses` travel as one vector, in the order of the tree; the others
    together, in float32. The results are the same bits on every device.

    Args:
        compression: How.
        axis_name: The mesh axis, or a tuple of several. With `compression.ranks_per_node`, the axis
            of the nodes and that of the devices of each; see nodes.py.
        world_size: Devices along it.
        average: False: the sum instead of the mean.
    """

    def init(params: optax.Params) -> CompressionState:
        return _init(params, compression, world_size)

    def update(
        updates: optax.Updates, state: CompressionState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, CompressionState]:
        del params
        leaves, tree = jax.tree.flatten(updates)
        shared = has_nodes(compression)
        residuals = [None] * len(leaves) if shared else tree.flatten_up_to(state.local)
        _check_update(leaves, residuals, axis_name, world_size)
        large = [leaf for leaf in leaves if compresses(compression, leaf.shape)]
        small = [leaf for leaf in leaves if not compresses(compression, leaf.shape)]
        held = [r for r in residuals if r is not None]
        feedback = None
        if state.owned is not None:
            local = state.local[0] if shared else _join(held)
            feedback = Feedback(local, state.owned[0])
        options = {"average": average, "feedback": feedback, "step": state.step}
        reduce_large = psum_of_nodes if shared else _psum
        total, feedback = reduce_large(_join(large), axis_name, compression, **options)
        reduce = lax.pmean if average else lax.psum
        plain = reduce(_join(small, jnp.float32), axis_name)
        reduced = {True: iter(_split(total, large)), False: iter(_split(plain, small))}
        result = [next(reduced[compresses(compression, leaf.shape)]) for leaf in leaves]
        state = state._replace(step=optax.safe_increment(state.step))
        if feedback is not None and shared:
            state = state._replace(local=feedback.local[None], owned=feedback.owned[None])
        elif feedback is not None:
            kept = iter(_split(feedback.local, held))
            local = [None if r is None else next(kept) for r in residuals]
            state = state._replace(local=tree.unflatten(local), owned=feedback.owned[None])
        return tree.unflatten(result), state

    return optax.GradientTransformation(init, update)


def partition_specs(state: optax.OptState, axis_name: AxisName) -> Any:
    """Returns how `jax.shard_map` is to cut an optimizer's state: the residuals and nothing else.

    Args:
        state: Of `compress_gradients` or of a chain with it, or its shapes.
        axis_name: As of `compress_gradients`.
    """
    by_device, replicated = PartitionSpec(axis_name), PartitionSpec()

    def specs(node: Any) -> Any:
        if not isinstance(node, CompressionState):
            return replicated
        residuals = jax.tree.map(lambda _: by_device, (node.local, node.owned))
        return CompressionState(replicated, *residuals)

    return jax.tree.map(specs, state, is_leaf=lambda node: isinstance(node, CompressionState))


def resize_state(
    state: CompressionState, compression: Compression, world_size: int
) -> CompressionState:
    """Returns a state for another number of devices, on the host.

    A device's new local residual is the mean of the old devices' local residuals; the owned ones
    are put together to the whole vector and cut anew. So what is pending of the mean over devices,
    mean(local) + owned, stays as it was; `comm.torch.checkpoint` has the same rule.

    Args:
        state: Of `compress_gradients` with this compression, all devices' parts of it.
        compression: Of both.
        world_size: The new number of devices.

    Raises:
        ValueError: The state is of another compression, or of one with `ranks_per_node`.
    """
    if has_nodes(compression):
        raise ValueError("ranks_per_node: the residuals of nodes are of no other number of devices")
    if state.owned is None:
        return state
    mean = jax.tree.map(lambda r: np.asarray(r).mean(0, dtype=np.float64), state.local)
    local = jax.tree.map(
        lambda r: np.broadcast_to(r.astype(np.float32), (world_size, *r.shape)), mean
    )
    size = sum(r.size for r in jax.tree.leaves(mean))
    owned = np.asarray(state.owned)
    if owned.shape[1] != owned_size(compression, size, len(owned)):
        raise ValueError(
            f"the state's owned residuals are {list(owned.shape)}, those of this compression would "
            f"be {[len(owned), owned_size(compression, size, len(owned))]}: give the bucket_bytes "
            "and block_size that the state was made with"
        )
    chunks, start = [], 0
    for piece_start, piece_stop in pieces(compression, size):
        old = compression.codec.chunk_size(piece_stop - piece_start, len(owned))
        new = compression.codec.chunk_size(piece_stop - piece_start, world_size)
        whole = owned[:, start : start + old].ravel()[: piece_stop - piece_start]
        padded = np.pad(whole, (0, world_size * new - whole.size))
        chunks.append(padded.reshape(world_size, new))
        start += old
    return CompressionState(np.asarray(state.step), local, np.concatenate(chunks, axis=1))


def bytes_per_step(params: optax.Params, compression: Compression, world_size: int) -> Wire:
    """Returns what each device sends in an update of `compress_gradients`.

    Args:
        params: The parameters or their shapes.
        compression: How.
        world_size: Number of devices.
    """
    wire = Wire()
    shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
    large = sum(math.prod(s) for s in shapes if compresses(compression, s))
    small = sum(math.prod(s) for s in shapes) - large
    # With nodes, of the first device's share, what goes between nodes.
    num_ends = world_size // (compression.ranks_per_node or 1)
    vector = min(large, share_size(compression, large)) if has_nodes(compression) else large
    for start, stop in pieces(compression, vector):
        chunk_size = compression.codec.chunk_size(stop - start, num_ends)
        payload_bytes = num_ends * compression.codec.payload_bytes(chunk_size)
        wire.add(
            all_reduce_bytes(payload_bytes, num_ends),
            all_reduce_bytes(_FLOAT32_BYTES * (stop - start), num_ends),
        )
    plain = all_reduce_bytes(_FLOAT32_BYTES * small, world_size)
    wire.add(plain, plain)
    return wire


def _init(params: optax.Params, compression: Compression, world_size: int) -> CompressionState:
    def residual(param: jax.Array) -> jax.Array | None:
        if compression.error_feedback and compresses(compression, param.shape):
            return jnp.zeros((world_size, *param.shape), jnp.float32)
        return None

    if has_nodes(compression):
        return _init_nodes(params, compression, world_size)
    local = jax.tree.map(residual, params)
    owned = None
    if compression.error_feedback:
        size = sum(r[0].size for r in jax.tree.leaves(local))
        owned = jnp.zeros((world_size, owned_size(compression, size, world_size)), jnp.float32)
    return CompressionState(jnp.zeros((), jnp.int32), local, owned)


def _init_nodes(
    params: optax.Params, compression: Compression, world_size: int
) -> CompressionState:
    local = owned = None
    if compression.error_feedback:
        shapes = [param.shape for param in jax.tree.leaves(params)]
        size = sum(math.prod(shape) for shape in shapes if compresses(compression, shape))
        local = jnp.zeros((world_size, share_size(compression, size)), jnp.float32)
        owned = jnp.zeros((world_size, owned_share_size(compression, size, world_size)))
    return CompressionState(jnp.zeros((), jnp.int32), local, owned)


def _psum(
    x: jax.Array, axis_name: AxisName, compression: Compression, **options: Any
) -> tuple[jax.Array, Feedback | None]:
    result = compressed_psum(x, axis_name, compression, **options)
    return result if isinstance(result, tuple) else (result, None)


def _join(arrays: Sequence[jax.Array], dtype: Any = None) -> jax.Array:
    """Returns all values as one vector, in the given or the common dtype."""
    if not arrays:
        return jnp.zeros(0, jnp.float32)
    dtype = dtype or jnp.result_type(*arrays)
    return jnp.concatenate([x.ravel().astype(dtype) for x in arrays])


def _split(vector: jax.Array, like: Sequence[jax.Array]) -> list[jax.Array]:
    """Undoes `_join`."""
    stops = list(itertools.accumulate(x.size for x in like))
    return [
        vector[stop - x.size : stop].reshape(x.shape).astype(x.dtype)
        for x, stop in zip(like, stops, strict=True)
    ]


def _check_update(
    leaves: Sequence[jax.Array],
    residuals: Sequence[jax.Array | None],
    axis_name: AxisName,
    world_size: int,
) -> None:
    devices = lax.axis_size(axis_name)
    if devices != world_size:
        raise ValueError(
            f"compress_gradients was made for {world_size} devices, but mesh axis {axis_name!r} "
            f"has {devices}; resize_state changes the number that a state is for"
        )
    # The type tells only under check_vma.
    expected = varying_axes(lax.axis_index(axis_name))
    for leaf, residual in zip(leaves, residuals, strict=True):
        if not expected <= varying_axes(leaf):
            raise ValueError(
                f"a gradient of shape {leaf.shape} is already the same on all devices along "
                f"{axis_name!r}: jax.grad summed it. Differentiate with respect to "
                f"jax.lax.pcast(params, {axis_name!r}, to='varying')"
            )
        if residual is not None and residual.shape != (1, *leaf.shape):
            raise ValueError(
                f"the residual of a gradient of shape {leaf.shape} must be {(1, *leaf.shape)} on "
                f"each device, got {residual.shape}: give jax.shard_map the in_specs and out_specs "
                "of partition_specs"
            )
