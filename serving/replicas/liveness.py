"""Whether the other side of a connection still lives, when it says nothing by itself.

A process that was stopped, and a machine that is gone, close no connection. So each side sends a
sign of life a few times within the time after which the other takes it for dead.
"""

import asyncio

from hpc.serving.v1 import transport_pb2 as wire

from serving.replicas.connection import Connection
from serving.replicas.frames import encode_frame

# Signs of life within the other side's patience. One may be late.
_BEATS = 4

# Less than that is a busy machine and no dead process; signs of life are not free either.
MIN_SILENCE_S = 0.1

_HEARTBEAT = encode_frame(wire.FRAME_KIND_HEARTBEAT, wire.Heartbeat())


class Liveness:
    """Sends signs of life over a connection, and closes it when none came for too long.

    Silence is counted in beats of this side's own event loop, and not by the clock: what came while
    the loop itself was held up is not read yet, and nobody's fault.

    Args:
        connection: To watch.
        loop: The connection's.
        ours_s: The silence that this side bears.
        theirs_s: The silence that the other side bears.
    """

    def __init__(
        self,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
        ours_s: float,
        theirs_s: float,
    ) -> None:
        self._connection = connection
        self._loop = loop
        self._silence_s = ours_s
        self._period_s = min(ours_s, theirs_s) / _BEATS
        self._silent_beats = 0
        self._timer = loop.call_later(self._period_s, self._beat)

    def stop(self) -> None:
        """Watches no longer."""
        self._timer.cancel()

    def _beat(self) -> None:
        # What is not read because we do not want it now says nothing of the other side.
        if self._connection.heard or self._connection.paused:
            self._connection.heard = False
            self._silent_beats = 0
        else:
            self._silent_beats += 1
        if self._silent_beats * self._period_s >= self._silence_s:
            self._connection.close(f"nothing came for {self._silence_s:g} s: it hangs, or is gone")
            return
        # If bytes wait already to be sent, one more sign does not arrive any earlier.
        if not self._connection.backlog_bytes:
            self._connection.send(_HEARTBEAT)
        self._timer = self._loop.call_later(self._period_s, self._beat)
