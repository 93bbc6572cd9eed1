"""Residuals follow their parameters when gradients are grouped into other vectors.

Which rank owns the sum of an element depends on the element's place in its vector. So when vectors
change, the owned residuals are put together from all ranks, as in a checkpoint, and cut anew.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import distributed

from comm.torch import hierarchical
from comm.torch.errors import communicating
from comm.torch.feedback import Feedback, Span, Whole


class Part(NamedTuple):
    """Where a parameter lies in a vector: `size` values from `offset` on."""

    name: str
    offset: int
    size: int


def split(
    feedback: Feedback,
    parts: Iterable[Part],
    group: distributed.ProcessGroup,
    ranks_per_node: int | None,
) -> dict[str, Whole]:
    """Returns the residuals of each parameter in a vector. All ranks of the group call this.

    Raises:
        CommunicationError: A rank is gone or too slow.
    """
    whole = _whole(feedback, group, ranks_per_node)
    if whole is None:
        return {}
    local, owned = whole
    return {
        name: (
            local[offset : offset + size],
            None if owned is None else owned[offset : offset + size],
        )
        for name, offset, size in parts
    }


def join(parts: Iterable[Part], size: int, residuals: Mapping[str, Whole]) -> Feedback:
    """Returns the residuals of a vector of `size` values; parameters without any have zeros.

    Raises:
        ValueError: Residuals of a name are not of the parameter's size.
    """
    result = Feedback()
    local, owned = torch.zeros(size), torch.zeros(size)
    found = False
    for name, offset, part_size in parts:
        if name not in residuals:
            continue
        found = True
        for whole, values in zip((local, owned), residuals[name], strict=True):
            if values is None:
                continue
            if values.numel() != part_size:
                raise ValueError(
                    f"the residuals of {name} are of {values.numel()} values and the parameter has "
                    f"{part_size}: the checkpoint is another model's"
                )
            whole[offset : offset + part_size].copy_(values)
    if found:
        result.inherit(local, owned)
    return result


def _whole(
    feedback: Feedback, group: distributed.ProcessGroup, ranks_per_node: int | None
) -> Whole | None:
    if feedback.local is None:
        return feedback.inherited
    owned = _sum(feedback.owned, feedback.size, feedback.local.values.device, group)
    local = feedback.local.values
    if local.numel() != feedback.size:
        # Between nodes this rank has only its share of the node's.
        inside, _ = hierarchical.divide(group, ranks_per_node or 1)
        local = _sum((feedback.local,), feedback.size, local.device, inside)
    return local, owned


def _sum(
    spans: Iterable[Span], size: int, device: torch.device, group: distributed.ProcessGroup
) -> torch.Tensor:
    """Puts a vector together of what the ranks have: at each index one rank's, so exactly."""
    whole = torch.zeros(size, device=device)
    for span in spans:
        whole[span.start : span.stop] = span.values
    with communicating(f"all-reduce of {whole.nbytes} bytes of residuals", group):
        distributed.all_reduce(whole, group=group)
    return whole
