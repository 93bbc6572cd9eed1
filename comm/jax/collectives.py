"""`lax.psum` and `lax.psum_scatter` that send 8 bits a value, for use inside `jax.shard_map`.

    total = compressed_psum(gradient, "data")

Each device quantizes its values and sends every other device the chunk that it sums; the sums are
quantized anew and sent to all. So every device decodes the same bytes and gets the same bits, which
are those that `comm.torch.collectives` makes of the same values.

Reference: the two hops as in Wang et al., "ZeRO++", 2023, arXiv:2306.10209; error feedback at both
as in Tang et al., "DoubleSqueeze", 2019, arXiv:1905.05957.
"""

from typing import NamedTuple, overload

import jax
import jax.numpy as jnp
from jax import lax

from comm.compression import Compression, pieces
from comm.jax import exchange
from comm.jax.mesh_axis import AxisName, check_collective, check_residual, vary

_DEFAULT_COMPRESSION = Compression()


class Feedback(NamedTuple):
    """What quantization has lost so far on one device and is still to be sent, in float32.

    Attributes:
        local: [size], of the device's own values.
        owned: [owned_size(...)], of the sums that this device makes, piece after piece.
    """

    local: jax.Array
    owned: jax.Array


def owned_size(compression: Compression, size: int, world_size: int) -> int:
    """Returns how many sums of a vector of `size` values each device makes, padding included."""
    codec = compression.codec
    return sum(
        codec.chunk_size(stop - start, world_size) for start, stop in pieces(compression, size)
    )


def init_feedback(compression: Compression, size: int, world_size: int) -> Feedback:
    """Returns the feedback of a device that has sent nothing yet of a vector of `size` values."""
    owned = owned_size(compression, size, world_size)
    return Feedback(jnp.zeros(size, jnp.float32), jnp.zeros(owned, jnp.float32))


@overload
def compressed_psum(
    x: jax.Array,
    axis_name: AxisName,
    compression: Compression = ...,
    *,
    average: bool = ...,
    feedback: None = None,
    step: int | jax.Array = ...,
    offset: int | jax.Array = ...,
) -> jax.Array: ...


@overload
def compressed_psum(
    x: jax.Array,
    axis_name: AxisName,
    compression: Compression = ...,
    *,
    average: bool = ...,
    feedback: Feedback,
    step: int | jax.Array = ...,
    offset: int | jax.Array = ...,
) -> tuple[jax.Array, Feedback]: ...


def compressed_psum(
    x: jax.Array,
    axis_name: AxisName,
    compression: Compression = _DEFAULT_COMPRESSION,
    *,
    average: bool = False,
    feedback: Feedback | None = None,
    step: int | jax.Array = 0,
    offset: int | jax.Array = 0,
) -> jax.Array | tuple[jax.Array, Feedback]:
    """Sums over a mesh axis, as `lax.psum` does, with 8-bit values on the wire.

    All of `x` is compressed, whatever `compression.min_size` says. It is cut into pieces of
    `compression.bucket_bytes`, whose collectives need not wait for each other; the program grows
    with their number. Over an axis of one device nothing is sent, and nothing is lost. A block with
    a NaN or an infinity becomes NaN on every device.

    Args:
        x: Of any shape, float32, bfloat16 or float16; sums are made in float32.
        axis_name: The mesh axis, or a tuple of several.
        compression: How. Its `error_feedback` is not looked at: whether there is `feedback` counts.
        average: Return the mean instead of the sum.
        feedback: What the steps before gave, `init_feedback` at first.
        step: Of training; seeds stochastic rounding. May be traced.
        offset: Index of the first value in a longer vector, for stochastic rounding.

    Returns:
        An array like `x` with the same bits on every device; its type does not vary over the axis.
        With `feedback`, a pair of it and the feedback for the next step.

    Raises:
        TypeError: `x` or the feedback has another dtype.
        ValueError: The feedback is not of this size, or `compression` has `ranks_per_node`.
    """
    check_collective(compression, x.size)
    world_size = lax.axis_size(axis_name)
    if feedback is not None:
        check_residual("feedback.local", feedback.local, x.size)
        owned = owned_size(compression, x.size, world_size)
        check_residual("feedback.owned", feedback.owned, owned)
    if world_size == 1 or x.size == 0:
        total = lax.psum(x, axis_name)
        return total if feedback is None else (total, feedback)
    plan = exchange.Plan(axis_name, compression, average, step, offset)
    flat, held = vary((x.ravel(), feedback), axis_name)
    if feedback is None:
        return exchange.all_reduce(flat, None, None, plan)[0].reshape(x.shape)
    total, *kept = exchange.all_reduce(flat, held.local, held.owned, plan)
    return total.reshape(x.shape), Feedback(*kept)


@overload
def compressed_psum_scatter(
    x: jax.Array,
    axis_name: AxisName,
    compression: Compression = ...,
    *,
    average: bool = ...,
    residual: None = None,
    step: int | jax.Array = ...,
) -> jax.Array: ...


@overload
def compressed_psum_scatter(
    x: jax.Array,
    axis_name: AxisName,
    compression: Compression = ...,
    *,
    average: bool = ...,
    residual: jax.Array,
    step: int | jax.Array = ...,
) -> tuple[jax.Array, jax.Array]: ...


def compressed_psum_scatter(
    x: jax.Array,
    axis_name: AxisName,
    compression: Compression = _DEFAULT_COMPRESSION,
    *,
    average: bool = False,
    residual: jax.Array | None = None,
    step: int | jax.Array = 0,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Sums over a mesh axis and keeps a share, as `lax.psum_scatter(..., tiled=True)` does.

    Values are quantized once, on their way to the device that sums them; sums are not. All else is
    as for `compressed_psum`.

    Args:
        x: [n, ...], float32, bfloat16 or float16, with n a multiple of the number of devices.
        axis_name: The mesh axis, or a tuple of several.
        compression: How.
        average: Return the mean instead of the sum.
        residual: Float32 [x.size], what has been lost of the device's values; zeros at first.
        step: Of training; seeds stochastic rounding. May be traced.

    Returns:
        [n / number of devices, ...] with the dtype of `x`. With `residual`, a pair of it and the
        residual for the next step.

    Raises:
        TypeError: `x` or the residual has another dtype.
        ValueError: n is not a multiple, the residual is not of this size, or `compression` has
            `ranks_per_node`.
    """
    check_collective(compression, x.size)
    world_size = lax.axis_size(axis_name)
    if not x.ndim or x.shape[0] % world_size:
        raise ValueError(
            f"the first dimension must be a multiple of the {world_size} devices along "
            f"{axis_name!r}, got shape {x.shape}"
        )
    if residual is not None:
        check_residual("residual", residual, x.size)
    if world_size == 1 or x.size == 0:
        share = lax.psum_scatter(x, axis_name, tiled=True)
        return share if residual is None else (share, residual)
    plan = exchange.Plan(axis_name, compression, average, step)
    shape = (x.shape[0] // world_size, *x.shape[1:])
    rests = None if residual is None else residual.reshape(world_size, -1)
    rows, rests = vary((x.reshape(world_size, -1), rests), axis_name)
    share, rests = exchange.reduce_scatter(rows, rests, plan)
    share = share.reshape(shape)
    return share if rests is None else (share, rests.ravel())
