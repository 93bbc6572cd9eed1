"""What goes wrong between ranks, with what was being done when it did."""

import contextlib
from collections.abc import Iterator

from torch import distributed

from comm.torch.subgroup import timeout


class CommunicationError(RuntimeError):
    """A collective failed: a rank is gone, or did not answer within the group's timeout."""


class MismatchError(ValueError):
    """Ranks called the same collective with different sizes, dtypes or settings."""


@contextlib.contextmanager
def communicating(what: str, group: distributed.ProcessGroup) -> Iterator[None]:
    """Turns what a process group raises within into a CommunicationError.

    Args:
        what: Is being done, such as "all-to-all of 3200 bytes", for the message.
        group: By which it is done.

    Raises:
        CommunicationError: Instead of the group's own RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        rank, world_size = distributed.get_rank(group), distributed.get_world_size(group)
        limit = timeout(group)
        within = "" if limit is None else f" within {limit.total_seconds():g} s"
        first_line = (str(error).splitlines() or ["no message"])[0]
        raise CommunicationError(
            f"{what} failed on rank {rank} of {world_size}: another rank was killed, failed or did "
            f"not take part{within}. Look for the first error in the other ranks' logs; if all "
            f"still ran, raise the process group's timeout. The cause: {first_line}"
        ) from error
