"""The HTTP server for those who run the gateway: metrics, and whether it lives and is ready.

It has a port of its own, so that clients need not be able to reach it.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from serving.core.engine import Engine
from serving.core.errors import Kind, ServingError, quote
from serving.protocols.over_http.calls import Exchange
from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.listener import Listener
from serving.protocols.over_http.replies import Reply, json_reply, method_not_allowed

# Given the header `Accept`, returns the page of metrics and its content type.
MetricsPage = Callable[[str], Awaitable[tuple[bytes, str]]]

_METHODS = ("GET", "HEAD")


class AdminServer:
    """Serves `/metrics`, `/livez` and `/readyz`, and nothing else.

    Args:
        engine: knows what is ready.
        metrics: writes the page of metrics.
        config: the limits of connections.
    """

    def __init__(self, engine: Engine, metrics: MetricsPage, config: HttpConfig) -> None:
        self._engine = engine
        self._metrics = metrics
        self._pages = {"/metrics": self._scrape, "/livez": self._live, "/readyz": self._ready}
        self._listener = Listener(self._answer, config)

    async def listen(self, host: str, port: int) -> str:
        """See `Listener.listen`."""
        return await self._listener.listen(host, port)

    async def stop(self, grace_s: float) -> None:
        """See `Listener.stop`."""
        await self._listener.stop(grace_s)

    async def _answer(self, exchange: Exchange) -> Reply:
        path, method = exchange.http.raw_path.partition("?")[0], exchange.http.method
        page = self._pages.get(path)
        if page is None:
            raise ServingError(
                Kind.NOT_FOUND, f"there is no page {quote(path)}; expected {', '.join(self._pages)}"
            )
        if method not in _METHODS:
            raise method_not_allowed(method, _METHODS)
        return await page(exchange)

    async def _scrape(self, exchange: Exchange) -> Reply:
        body, content_type = await self._metrics(exchange.http.headers.get("Accept", ""))
        return Reply(HTTPStatus.OK, body, content_type)

    async def _live(self, exchange: Exchange) -> Reply:
        """That the event loop turns: it could not answer otherwise."""
        return json_reply({"live": True})

    async def _ready(self, exchange: Exchange) -> Reply:
        """Each version of each model, and why it does not answer."""
        reason = self._engine.server_why_not_ready()
        models = [
            {
                "name": model.name,
                "version": model.version,
                "state": state,
                "reason": why,
            }
            for model, state, why in self._engine.models()
        ]
        told = {"ready": reason is None, "reason": reason or "", "models": models}
        return json_reply(told, HTTPStatus.OK if reason is None else HTTPStatus.SERVICE_UNAVAILABLE)
