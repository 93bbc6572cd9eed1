"""The replicas of one version that are connected now: `serving.core.channel.Channels`."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from serving.control.announcements import Announcement
from serving.core.channel import Channel
from serving.replicas.addresses import is_unix
from serving.replicas.channel import ReplicaChannel
from serving.replicas.connecting import connect
from serving.replicas.errors import ConnectError

_log = logging.getLogger(__name__)

# Between attempts to connect to one that is there and does not answer, doubled up to the last.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.05, 2.0


class ReplicaSet:
    """Connects to replicas as they are announced, and drops what is gone at once.

    Args:
        digest: Of the artifact that they must serve.
        node: The gateway's, as Ray knows it.
        token: Which they and the gateway prove to know.
        is_starting: Says whether there was none yet, and may be.
        why_empty: Says why there is none, while there is none.
        gone: Is told of a replica that was announced and is no more.
    """

    def __init__(
        self,
        *,
        digest: str,
        node: str,
        token: bytes,
        is_starting: Callable[[], bool],
        why_empty: Callable[[], str],
        gone: Callable[[str], None],
    ) -> None:
        self._digest, self._node, self._token = digest, node, token
        self._is_starting, self._why_empty, self._gone = is_starting, why_empty, gone
        self._connected: list[Channel] = []
        self._channels: dict[str, ReplicaChannel] = {}
        self._connecting: dict[str, asyncio.Task[None]] = {}
        self._draining: set[ReplicaChannel] = set()
        self._changed: list[Callable[[], None]] = []

    @property
    def connected(self) -> Sequence[Channel]:
        """See `Channels.connected`."""
        return self._connected

    @property
    def known(self) -> Sequence[str]:
        """The names of those that are connected, or being connected to."""
        return [*self._channels, *self._connecting]

    @property
    def is_starting(self) -> bool:
        """See `Channels.is_starting`."""
        return self._is_starting()

    def why_empty(self) -> str:
        """See `Channels.why_empty`."""
        return self._why_empty()

    def subscribe(self, changed: Callable[[], None]) -> None:
        """See `Channels.subscribe`."""
        self._changed.append(changed)

    def announced(self, found: Mapping[str, Announcement | None]) -> None:
        """Connects to those that were not known before."""
        for name, announcement in found.items():
            if announcement is not None and name not in self.known:
                self._connect(announcement)

    async def close(self) -> None:
        """Ends all connections; what is in flight ends with ReplicaLostError."""
        tasks = list(self._connecting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        channels = [*self._channels.values(), *self._draining]
        self._channels.clear()  # first, so that none of them is connected to again
        for channel in channels:
            channel.close()

    def _connect(self, announcement: Announcement) -> None:
        task = asyncio.create_task(self._keep_connecting(announcement))
        self._connecting[announcement.replica] = task

    async def _keep_connecting(self, announcement: Announcement) -> None:
        name, pause_s = announcement.replica, _FIRST_PAUSE_S
        try:
            while True:
                try:
                    self._channels[name] = await self._reach(announcement)
                    break
                except ConnectError as error:
                    if _is_gone(error):
                        self._gone(name)
                        return
                    if pause_s == _FIRST_PAUSE_S:
                        _log.warning("replica %s cannot be reached: %s", name, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LAST_PAUSE_S)
        finally:
            del self._connecting[name]
        self._notify()

    async def _reach(self, announcement: Announcement) -> ReplicaChannel:
        """Connects by the shortest way that there is."""
        near = announcement.node == self._node
        addresses = [a for a in announcement.addresses if near or not is_unix(a)]
        if not addresses:
            raise ConnectError(f"{announcement.replica} listens nowhere that can be seen from here")
        address = min(addresses, key=lambda a: not is_unix(a))
        # Both are called in later turns of the event loop, when there is a channel.
        channel = await connect(
            address,
            self._token,
            lambda: self._lost(announcement, channel),
            on_draining=lambda: self._leave(channel),
        )
        if (channel.name, channel.digest) != (announcement.replica, self._digest):
            channel.close()
            raise ConnectError(
                f"{address} is {channel.name} with artifact {channel.digest}, not "
                f"{announcement.replica} with {self._digest}"
            )
        return channel

    def _lost(self, announcement: Announcement, channel: ReplicaChannel) -> None:
        """A connection has ended. Most often its replica has, and then nobody answers there."""
        self._draining.discard(channel)
        if self._channels.get(channel.name) is not channel:
            return
        del self._channels[channel.name]
        self._notify()
        self._connect(announcement)

    def _leave(self, channel: ReplicaChannel) -> None:
        """A replica wants no more jobs; it answers those that it has and then goes."""
        if self._channels.pop(channel.name, None) is not None:
            self._draining.add(channel)
            self._notify()

    def _notify(self) -> None:
        self._connected = [c for c in self._channels.values() if not c.draining]
        for changed in list(self._changed):
            changed()


def _is_gone(error: ConnectError) -> bool:
    """Whether nobody listens there any more: then that replica has ended, and never comes back."""
    return isinstance(error.__cause__, ConnectionRefusedError | FileNotFoundError)
