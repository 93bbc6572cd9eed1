"""Process groups made of other groups' ranks."""

import datetime
from collections.abc import Sequence

import torch
from torch import distributed


def default_group(group: distributed.ProcessGroup | None) -> distributed.ProcessGroup:
    """Returns the group, or the default one.

    Raises:
        ValueError: There is no default group.
    """
    if group is not None:
        return group
    if not distributed.is_initialized() or distributed.group.WORLD is None:
        raise ValueError(
            "there is no default process group: call torch.distributed.init_process_group first, "
            "or give a group"
        )
    return distributed.group.WORLD


def subgroup(ranks: Sequence[int], of: distributed.ProcessGroup) -> distributed.ProcessGroup:
    """Returns a new group of these ranks, with the backend and the timeout of `of`.

    Only they call this.

    Args:
        ranks: Global ranks, in order.
        of: A group that has them all.
    """
    made: distributed.ProcessGroup = distributed.new_group(
        ranks,
        timeout=timeout(of),
        backend=distributed.get_backend(of),
        use_local_synchronization=True,
    )
    return made


def timeout(group: distributed.ProcessGroup) -> datetime.timedelta | None:
    """Returns how long a collective of a group may take, None where the backend does not tell."""
    device = torch.device("cuda" if distributed.get_backend(group) == "nccl" else "cpu")
    options = getattr(group._get_backend(device), "options", None)  # no public way
    return getattr(options, "_timeout", None)
