"""The all-reduce of ranks in nodes: float32 inside a node, 8 bits between nodes.

    1. inside each node, a reduce-scatter: rank i of a node gets share i of the node's sum
    2. between the ranks i of all nodes, the compressed all-reduce of share i
    3. inside each node, an all-gather of the shares

So what crosses the slow links is the least there is, and what is inside loses nothing. Ranks are
numbered node by node, as launchers do: ranks n * ranks_per_node on are node n.
"""

import weakref

import torch
from torch import distributed

from comm.compression import Compression
from comm.torch import two_hops, workspace
from comm.torch.feedback import Feedback
from comm.torch.subgroup import subgroup
from comm.torch.uncompressed import all_gather, begin_reduce_scatter, float32_buffer
from comm.wire import Wire

_Groups = tuple[distributed.ProcessGroup, distributed.ProcessGroup]

# Making a group is a collective of all ranks: once for each group that is divided and each size.
_groups: weakref.WeakKeyDictionary[distributed.ProcessGroup, dict[int, _Groups]] = (
    weakref.WeakKeyDictionary()
)


def num_nodes(compression: Compression, world_size: int) -> int | None:
    """Returns the number of nodes, None if there is only one level: one node, or ranks alone.

    Raises:
        ValueError: The nodes would not be equal.
    """
    per_node = compression.ranks_per_node
    if per_node is None or per_node == 1:
        return None
    if world_size % per_node:
        raise ValueError(
            f"ranks_per_node {per_node} must divide the number of ranks, {world_size}: all nodes "
            "have as many"
        )
    return world_size // per_node


def all_reduce(
    x: torch.Tensor,
    compression: Compression,
    group: distributed.ProcessGroup,
    average: bool,
    feedback: Feedback | None,
    step: int,
    wire: Wire | None,
) -> None:
    """Replaces x by its mean or sum over the ranks; see `collectives.all_reduce`.

    The residuals are of this rank's share, in units of the node's mean or sum. The wire counts what
    goes between nodes, in both of its numbers.

    Raises:
        CommunicationError: A rank is gone or too slow.
    """
    per_node = compression.ranks_per_node or 1
    inside, between = divide(group, per_node)
    share_size = compression.codec.chunk_size(x.numel(), per_node)
    whole = float32_buffer("node", per_node * share_size, x.device)
    whole[: x.numel()].copy_(x)
    whole[x.numel() :].zero_()
    try:
        share = begin_reduce_scatter(whole, inside, "node's shares")()
        if average:
            share.mul_(1.0 / per_node)
        _between_nodes(
            share, x.numel(), compression, between, inside, average, feedback, step, wire
        )
        all_gather(whole, share, inside)
    except BaseException:
        workspace.forget()
        raise
    x.copy_(whole[: x.numel()])


def _between_nodes(
    share: torch.Tensor,
    size: int,
    compression: Compression,
    between: distributed.ProcessGroup,
    inside: distributed.ProcessGroup,
    average: bool,
    feedback: Feedback | None,
    step: int,
    wire: Wire | None,
) -> None:
    """Replaces the share by its mean or sum over the nodes."""
    if distributed.get_world_size(between) == 1:
        return
    start = distributed.get_rank(inside) * share.numel()
    values = share[: max(0, size - start)]
    plan = two_hops.plan(compression, between, average=average, step=step)
    pieces = two_hops.cut(values, plan, feedback, offset=start, size=size)
    # All ranks of the whole group have agreed.
    two_hops.all_reduce_pieces(pieces, plan, lambda: None, wire)


def divide(group: distributed.ProcessGroup, per_node: int) -> _Groups:
    """Returns this rank's group inside its node and the one between nodes."""
    made = _groups.setdefault(group, {})
    if per_node not in made:
        ranks = distributed.get_process_group_ranks(group)
        mine = distributed.get_rank(group)
        node, place = divmod(mine, per_node)
        inside = ranks[node * per_node : (node + 1) * per_node]
        made[per_node] = (subgroup(inside, group), subgroup(ranks[place::per_node], group))
    return made[per_node]
