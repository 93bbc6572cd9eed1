"""The HTTP server for clients: finds the page of a request, and has it answered."""

from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web

from serving.core.engine import Engine
from serving.core.errors import Kind, ServingError, draining, quote
from serving.core.model_control import ModelControl
from serving.core.request import Protocol as Way
from serving.protocols.ending import quiet
from serving.protocols.over_http.body import Uploads
from serving.protocols.over_http.calls import Exchange
from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.image_reader import ImageReader
from serving.protocols.over_http.listener import Listener
from serving.protocols.over_http.openapi import document
from serving.protocols.over_http.replies import HttpError, Reply, method_not_allowed
from serving.protocols.over_http.routes import MAX_PATH, ROUTES, Route, find
from serving.protocols.over_http.service import Service


class HttpServer:
    """Serves the Open Inference Protocol over REST, and `/predict`, for an engine.

    Args:
        engine: answers requests.
        config: the limits.
        control: loads and unloads models; None: clients may not.
    """

    def __init__(
        self, engine: Engine, config: HttpConfig, control: ModelControl | None = None
    ) -> None:
        uploads, images = Uploads(config.max_reading_bytes), ImageReader(config)
        self._service = Service(engine, config, control, uploads, images, document(ROUTES))
        self._engine, self._timeout_s = engine, config.timeout_s
        self._listener = Listener(self._answer, config, lambda: engine.draining)
        self._arrived = 0
        self._refusing = False

    async def listen(self, host: str, port: int) -> str:
        """See `Listener.listen`."""
        return await self._listener.listen(host, port)

    async def stop(self, grace_s: float) -> None:
        """Refuses what comes until nothing comes, or for a second; then see `Listener.stop`."""
        self._refusing = True
        await quiet(lambda: self._arrived)
        await self._listener.stop(grace_s)
        self._service.images.close()

    async def _answer(self, exchange: Exchange) -> Reply:
        self._arrived += 1
        if self._refusing:
            deadline, error = exchange.arrived + self._timeout_s, draining()
            self._engine.refuse(
                exchange.call(Way.REST, "", "", size_bytes=0, deadline=deadline), error
            )
            raise error
        route = _route(exchange)
        return await route.handler(self._service, exchange)


def _route(exchange: Exchange) -> Route:
    """Who answers; the exchange is told what stands in the places of the path.

    Raises:
        ServingError: There is no such page, or not with this method.
    """
    http = exchange.http
    path = http.raw_path.partition("?")[0]
    if len(path) > MAX_PATH:
        raise HttpError(
            HTTPStatus.REQUEST_URI_TOO_LONG, f"the path is too long; expected at most {MAX_PATH}"
        )
    found = find(path if path.startswith("/") else http.rel_url.raw_path)
    if found is None:
        raise ServingError(
            Kind.NOT_FOUND, f"there is no page {quote(path)}; /openapi.json lists those there are"
        )
    route = found.by_method.get(http.method)
    if route is None:
        raise method_not_allowed(http.method, found.by_method)
    if route.method != "GET":
        _refuse_other_origins(http)
    exchange.names = found.names
    return route


def _refuse_other_origins(http: web.BaseRequest) -> None:
    """A web page that somebody looks at shall not use the servers that their machine can reach."""
    origin = http.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != http.headers.get("Host"):
        raise HttpError(
            HTTPStatus.FORBIDDEN, f"requests of web pages of {quote(origin)} are not answered"
        )
