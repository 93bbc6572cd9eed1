"""Sums of float32 over ranks that depend on nothing but the ranks' order.

The all-reduce of a library sums in an order that depends on where in the vector an element is; so
its last bits change when gradients are grouped otherwise. Here each rank sums a share, rank by
rank. It sends as many bytes.
"""

from collections.abc import Callable

import torch
from torch import distributed

from comm.torch import workspace
from comm.torch.errors import communicating

_FLOAT32_BYTES = 4


def begin_reduce_scatter(
    x: torch.Tensor, group: distributed.ProcessGroup, name: str
) -> Callable[[], torch.Tensor]:
    """Starts the sum of this rank's share of x over the ranks.

    Args:
        x: [world_size * n], float32, contiguous.
        group: All its ranks call this.
        name: Of the buffer for what arrives, which is the result's memory too; see workspace.py.

    Returns:
        A function that waits and returns the sum [n], and raises CommunicationError.
    """
    world_size = distributed.get_world_size(group)
    received = float32_buffer(name, x.numel(), x.device)
    what = f"all-to-all of {x.nbytes} bytes of float32"
    with communicating(what, group):
        work = distributed.all_to_all_single(received, x, group=group, async_op=True)

    def finish() -> torch.Tensor:
        with communicating(what, group):
            work.wait()
        rows = received.view(world_size, -1)
        for rank in range(1, world_size):
            rows[0].add_(rows[rank])
        return rows[0]

    return finish


def all_gather(output: torch.Tensor, share: torch.Tensor, group: distributed.ProcessGroup) -> None:
    """Writes the shares of all ranks, one after another, to output.

    Raises:
        CommunicationError: A rank is gone or too slow.
    """
    with communicating(f"all-gather of {output.nbytes} bytes of float32", group):
        distributed.all_gather_single(output, share, group=group)


def float32_buffer(name: str, size: int, device: torch.device) -> torch.Tensor:
    """Returns a buffer of this thread, [size] of float32; see workspace.py."""
    return workspace.buffer(name, _FLOAT32_BYTES * size, device).view(torch.float32)
