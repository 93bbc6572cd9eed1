"""What every HTTP server here has: it listens, tells errors, and ends without losing a request."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from serving.core.errors import ServingError
from serving.core.incidents import incident
from serving.protocols.over_http.calls import Exchange
from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.connection import SERVER, Connections
from serving.protocols.over_http.replies import Reply, refusal
from serving.protocols.ports import authority, not_had
from serving.protocols.request_ids import HEADER

# Connections that the system keeps until they are taken: a burst of them is none too many.
_BACKLOG = 1024


class Listener:
    """Listens on one port.

    Args:
        answer: answers a request, or raises ServingError.
        config: the limits of connections.
        is_ending: no connection is to be kept after an answer.
    """

    def __init__(
        self,
        answer: Callable[[Exchange], Awaitable[Reply]],
        config: HttpConfig,
        is_ending: Callable[[], bool] = lambda: False,
    ) -> None:
        self._answer = answer
        self._is_ending = is_ending
        self.connections = Connections(self._respond, config)
        self._listening: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> str:
        """Listens.

        Args:
            host: an address of this machine.
            port: or 0 for any free one.

        Returns:
            The address, as `host:port`.

        Raises:
            StartError: The address is taken, or is not one of this machine.
        """
        loop = asyncio.get_running_loop()
        try:
            listening = await loop.create_server(self.connections, host, port, backlog=_BACKLOG)
        except OSError as error:
            raise not_had(host, port) from error
        self._listening = listening
        return f"{authority(host)}:{listening.sockets[0].getsockname()[1]}"

    async def stop(self, grace_s: float) -> None:
        """Takes no more connections, parts with idle ones, and answers what has come.

        Args:
            grace_s: after which running requests are cancelled.
        """
        if self._listening is not None:
            self._listening.close()
        await self.connections.close(grace_s)

    async def _respond(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answers any request, with an error if need be."""
        exchange = Exchange(http)
        try:
            reply = await self._answer(exchange)
        except ServingError as error:
            reply = refusal(error)
            # The frames that it came through hold the request, and some of them hold the error.
            error.__traceback__ = error.__context__ = error.__cause__ = None
        except ConnectionError:  # the client is gone
            raise
        except Exception as fault:
            reply = refusal(incident(fault))
        headers = {
            "Server": SERVER,
            HEADER: exchange.request_id,
            "Content-Type": reply.content_type,
            **reply.headers,
        }
        response = web.Response(body=reply.body, status=reply.status, headers=headers)
        ending = self.connections.closing or self._is_ending()
        if ending or not http.content.is_eof():  # what was not read would be read for nothing
            response.force_close()
        return response
