"""The all-reduce of ranks in nodes: float32 inside a node, 8 bits between nodes.

    1. inside each node, a reduce-scatter: rank i of a node gets share i of the node's sum
    2. between the ranks i of all nodes, the compressed all-reduce of share i
    3. inside each node, an all-gather of the shares

So what crosses the slow links is the least there is, and what is inside loses nothing. Ranks are
numbered node by node, as launchers do: ranks n * ranks_per_node on are node n.
"""

import weakref
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import distributed

from comm.compression import Compression
from comm.torch import exchange
from comm.torch.errors import communicating
from comm.torch.parts import Plan
from comm.torch.subgroup import subgroup
from comm.torch.vectors import Share, Vector, even_shares, for_all_ranks, for_owners
from comm.wire import Wire

_Groups = tuple[distributed.ProcessGroup, distributed.ProcessGroup]

# Making a group is a collective of all ranks: once for each group that is divided and each size.
_groups: weakref.WeakKeyDictionary[distributed.ProcessGroup, dict[int, _Groups]] = (
    weakref.WeakKeyDictionary()
)


def has_nodes(compression: Compression, world_size: int) -> bool:
    """Returns whether there are two levels of links.

    Raises:
        ValueError: The nodes would not be equal.
    """
    per_node = compression.ranks_per_node
    if per_node in (None, 1):
        return False
    if world_size % per_node:
        raise ValueError(
            f"ranks_per_node {per_node} must divide the number of ranks, {world_size}: all nodes "
            "have as many"
        )
    return True


def all_reduce(vectors: Sequence[Vector], plan: Plan) -> None:
    """Replaces the values of all vectors by their means or sums over the ranks.

    Their feedback has the residuals of this rank's shares, in units of the node's mean or sum. The
    wire counts what goes between nodes, in both of its numbers.

    Args:
        vectors: Compressed, one or more, all on one device.
        plan: Of the whole group, whose ranks have agreed.

    Raises:
        CommunicationError: A rank is gone or too slow.
    """
    inside, between = _divide(plan.group, plan.compression.ranks_per_node or 1)
    in_node = replace(plan, group=inside, wire=Wire())
    shares = [even_shares(v.size, in_node.world_size, plan.codec.block_size) for v in vectors]
    mine = [of_vector[in_node.rank] for of_vector in shares]
    lengths = [of_vector[0].stop for of_vector in shares]
    # This rank's shares, one after another and each as long as the first rank's.
    sums = torch.zeros(sum(lengths), dtype=torch.float32, device=vectors[0].values.device)
    results = [
        whole[: share.stop - share.start]
        for whole, share in zip(sums.split(lengths), mine, strict=True)
    ]
    plain = [replace(vector, plain_dtype=torch.float32) for vector in vectors]
    parts = for_owners(zip(plain, shares, strict=True), in_node, results)
    exchange.reduce_scatter(parts, in_node)
    between_nodes = replace(plan, group=between)
    if between_nodes.world_size > 1:
        of_nodes = map(_share, vectors, mine, results)
        exchange.all_reduce(for_all_ranks(of_nodes, between_nodes), between_nodes)
    _gather(vectors, shares, sums, lengths, in_node)


def _share(vector: Vector, share: Share, values: torch.Tensor) -> Vector:
    return replace(
        vector,
        values=values,
        offset=vector.offset + share.start,
        start=share.start,
        whole_size=vector.size,
    )


def _gather(
    vectors: Sequence[Vector],
    shares: Sequence[Sequence[Share]],
    sums: torch.Tensor,
    lengths: Sequence[int],
    plan: Plan,
) -> None:
    """Writes the sums of all ranks of the node to the vectors."""
    received = sums.new_empty(plan.world_size, sums.numel())
    with communicating(f"all-gather of {received.nbytes} bytes of float32", plan.group):
        distributed.all_gather_single(received.flatten(), sums, group=plan.group)
    columns = received.split(list(lengths), dim=1)
    for vector, of_vector, rows in zip(vectors, shares, columns, strict=True):
        for share, row in zip(of_vector, rows, strict=True):
            vector.values[share.start : share.stop] = row[: share.stop - share.start]


def _divide(group: distributed.ProcessGroup, per_node: int) -> _Groups:
    """Returns this rank's group inside its node and the one between nodes."""
    made = _groups.setdefault(group, {})
    if per_node not in made:
        ranks = distributed.get_process_group_ranks(group)
        mine = distributed.get_rank(group)
        node, place = divmod(mine, per_node)
        inside = ranks[node * per_node : (node + 1) * per_node]
        made[per_node] = (subgroup(inside, group), subgroup(ranks[place::per_node], group))
    return made[per_node]
