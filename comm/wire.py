"""Bytes that ranks send each other."""

from dataclasses import dataclass


@dataclass
class Wire:
    """Counts what one rank has sent to others.

    Attributes:
        sent_bytes: Sent, payloads and what went uncompressed alike.
        float32_bytes: What the best algorithm would have sent of float32 values for the same
            results.
    """

    sent_bytes: float = 0.0
    float32_bytes: float = 0.0

    def add(self, sent_bytes: float, float32_bytes: float) -> None:
        """Counts a collective."""
        self.sent_bytes += sent_bytes
        self.float32_bytes += float32_bytes

    @property
    def ratio(self) -> float:
        """Bytes sent over those of float32; 1 before anything was sent."""
        return self.sent_bytes / self.float32_bytes if self.float32_bytes else 1.0


def reduce_scatter_bytes(num_bytes: float, world_size: int) -> float:
    """Returns what each rank sends of `num_bytes` to leave every rank with a share of the sum.

    So it is for an all-to-all and for an all-gather of `num_bytes` in all.
    """
    return num_bytes * (world_size - 1) / world_size


def all_reduce_bytes(num_bytes: float, world_size: int) -> float:
    """Returns what each rank sends of `num_bytes` to leave every rank with all of the sum.

    Reference: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
    workstations", 2009.
    """
    return 2 * reduce_scatter_bytes(num_bytes, world_size)
