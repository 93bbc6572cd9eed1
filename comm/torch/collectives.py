"""Collectives that send 8 bits a value: the mean or sum of vectors over the ranks of a group.

    feedback, wire = Feedback(), Wire()
    for step in range(num_steps):
        ...                                       # gradients: flat, contiguous, in place
        collectives.all_reduce(gradients, compression, feedback=feedback, step=step, wire=wire)

They run on the calling thread and return when the result is there. Every rank of the group calls
the same ones in the same order; on every rank an all-reduce ends with the same bits.
"""

from collections.abc import Callable, Sequence

import torch
from torch import distributed

from comm.compression import Compression
from comm.torch import agreement, exchange, nodes
from comm.torch.feedback import Feedback
from comm.torch.parts import Plan
from comm.torch.subgroup import default_group
from comm.torch.vectors import Vector, even_shares, for_all_ranks, for_owners
from comm.wire import Wire

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def all_reduce(
    x: torch.Tensor,
    compression: Compression,
    *,
    group: distributed.ProcessGroup | None = None,
    average: bool = True,
    feedback: Feedback | None = None,
    step: int = 0,
    wire: Wire | None = None,
) -> None:
    """Replaces x by its mean or sum over the ranks.

    In a group of one rank nothing happens: nothing is sent, so nothing is lost. A block of x with
    a NaN or an infinity becomes NaN on every rank.

    Args:
        x: float32, bfloat16 or float16, one-dimensional and contiguous; changed in place.
        compression: How values travel. With `ranks_per_node`, float32 inside a node and 8 bits
            between nodes; see nodes.py. `min_size` is the caller's business.
        group: The default group unless given.
        average: The mean; otherwise the sum.
        feedback: Residuals of x, the same object at every step; None: without error feedback,
            whatever `compression.error_feedback` says.
        step: Number of the step, for the seeds of stochastic rounding.
        wire: Counts the bytes that this rank sends.

    Raises:
        TypeError: x is of another dtype.
        ValueError: x is not flat or not contiguous, `feedback` is another vector's, or
            `ranks_per_node` does not divide the number of ranks.
        MismatchError: Ranks disagree about what to do.
        CommunicationError: A rank is gone, or too slow for the group's timeout.
    """
    all_reduce_coalesced(
        (x,), compression, group=group, average=average, feedbacks=(feedback,), step=step, wire=wire
    )


def all_reduce_coalesced(
    xs: Sequence[torch.Tensor],
    compression: Compression,
    *,
    group: distributed.ProcessGroup | None = None,
    average: bool = True,
    feedbacks: Sequence[Feedback | None] | None = None,
    step: int = 0,
    wire: Wire | None = None,
) -> None:
    """Does what `all_reduce` does to each of several vectors, one on its way while another is read.

    Args:
        xs: Vectors as for `all_reduce`, all of one dtype and on one device.
        compression: As for `all_reduce`.
        group: As for `all_reduce`.
        average: As for `all_reduce`.
        feedbacks: Residuals, one for each vector, or None.
        step: As for `all_reduce`.
        wire: As for `all_reduce`.

    Raises:
        As `all_reduce`.
    """
    group = default_group(group)
    for x in xs:
        _check("x", x)
    plan = Plan(compression, group, average=average, step=step, wire=wire or Wire())
    nodes.has_nodes(compression, plan.world_size)  # or refuses
    if plan.world_size == 1 or not xs:
        return
    feedbacks = [None] * len(xs) if feedbacks is None else feedbacks
    vectors = [Vector(x, feedback=f) for x, f in zip(xs, feedbacks, strict=True)]
    all_reduce_vectors(vectors, plan, agreement.begin("all_reduce", vectors, plan))


def all_reduce_vectors(
    vectors: Sequence[Vector], plan: Plan, agreed: Callable[[], None] = exchange.nothing
) -> None:
    """Replaces the values of all vectors by their means or sums: what plugs in gradients calls it.

    Args:
        vectors: The same on every rank but for the values. With nodes, those that are compressed
            take two levels.
        plan: Of the call.
        agreed: Raises MismatchError if ranks do not agree; called before anything is sent.

    Raises:
        ValueError: A feedback is another vector's.
        CommunicationError: A rank is gone or too slow.
    """
    if nodes.has_nodes(plan.compression, plan.world_size):
        agreed()
        agreed = exchange.nothing
        compressed = [vector for vector in vectors if vector.plain_dtype is None]
        vectors = [vector for vector in vectors if vector.plain_dtype is not None]
        if compressed:
            nodes.all_reduce(compressed, plan)
    exchange.all_reduce(for_all_ranks(vectors, plan), plan, agreed)


def reduce_scatter(
    output: torch.Tensor,
    x: torch.Tensor,
    compression: Compression,
    *,
    group: distributed.ProcessGroup | None = None,
    average: bool = True,
    feedback: Feedback | None = None,
    step: int = 0,
    wire: Wire | None = None,
) -> None:
    """Writes this rank's share of the mean or sum of x over the ranks to output.

    Values are quantized once, and the sum is not: it has no `owned` residual. `ranks_per_node`
    makes no difference: shares go straight to the ranks that keep them.

    Args:
        output: [n], float32, bfloat16 or float16, contiguous.
        x: [world_size * n], contiguous, of one of these dtypes; share r is rank r's. Unchanged.
        compression: How values travel.
        group: The default group unless given.
        average: The mean; otherwise the sum.
        feedback: Residuals of x, the same object at every step; None: without error feedback.
        step: Number of the step, for the seeds of stochastic rounding.
        wire: Counts the bytes that this rank sends.

    Raises:
        TypeError: A dtype is another.
        ValueError: A tensor is not flat or not contiguous, sizes do not fit, or `feedback` is
            another vector's.
        MismatchError: Ranks disagree about what to do.
        CommunicationError: A rank is gone, or too slow for the group's timeout.
    """
    group = default_group(group)
    _check("output", output)
    _check("x", x)
    world_size = distributed.get_world_size(group)
    if x.numel() != world_size * output.numel():
        raise ValueError(
            f"x must have a share of {output.numel()} values, as output has, for each of "
            f"{world_size} ranks, {world_size * output.numel()} in all; it has {x.numel()}"
        )
    if world_size == 1:
        output.copy_(x)
        return
    plan = Plan(compression, group, average=average, step=step, wire=wire or Wire())
    vector = Vector(x, feedback=feedback)
    agreed = agreement.begin("reduce_scatter", [vector], plan)
    parts = for_owners([(vector, even_shares(x.numel(), world_size))], plan, [output])
    exchange.reduce_scatter(parts, plan, agreed)


def _check(name: str, x: torch.Tensor) -> None:
    if x.dtype not in _DTYPES:
        raise TypeError(f"{name} must be float32, bfloat16 or float16, got {x.dtype}")
    if x.ndim != 1 or not x.is_contiguous():
        raise ValueError(
            f"{name} must be one-dimensional and contiguous, got shape {tuple(x.shape)} with "
            f"strides {x.stride()}: give a flat view, such as tensor.view(-1)"
        )
