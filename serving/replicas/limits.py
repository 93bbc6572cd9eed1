"""Bounds of the way between gateway and replica, with their reasons; each can be said otherwise."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one side of a connection bears.

    Attributes:
        silence_s: The other side is taken for dead when nothing came for so long. A dead process
            closes its connections at once; this is for one that was stopped, and for a machine
            that is gone. At least 0.1.
        max_payload_bytes: Of one frame.
        max_backlog_bytes: What was sent and the socket has not taken; with more than that, the
            other side gets no more, until it has read.
        max_waiting_bytes: Of a replica: inputs that wait for their turn, of one gateway. With more
            than that, or with `max_waiting_jobs`, the rest is left in the socket.
        max_waiting_jobs: See there.
        shared_min_bytes: Payloads from this size on go through shared memory where there is room.
            At 16 KiB that takes as long as the socket, at 64 KiB a little less, at 1 MiB six
            tenths and at 16 MiB four tenths (`//serving/replicas:transport_bench`).
    """

    silence_s: float = 5.0
    max_payload_bytes: int = 2**30
    max_backlog_bytes: int = 2**28
    max_waiting_bytes: int = 2**28
    max_waiting_jobs: int = 1024
    shared_min_bytes: int = 2**16


DEFAULT = Limits()
