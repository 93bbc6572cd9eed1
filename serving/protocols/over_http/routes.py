"""The one table of pages: what is answered, by whom, and what openapi.json says of it."""

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, NamedTuple
from urllib.parse import unquote

from serving.protocols.over_http import pages
from serving.protocols.over_http.calls import Exchange
from serving.protocols.over_http.replies import Reply
from serving.protocols.over_http.service import Service, infer, predict

Method = Literal["GET", "POST"]
Handler = Callable[[Service, Exchange], Awaitable[Reply]]

# No page has so long a path; names and ids are shorter, too.
MAX_PATH = 2048


class Route(NamedTuple):
    """A page.

    Attributes:
        method: of HTTP. Where it is GET, HEAD is answered, too.
        path: with `{model}` and `{version}` in the place of a name.
        handler: answers.
        summary: what it is for, in one line.
        request: the schema of its body, by name; "": it has none.
        reply: the schema of its answer, by name.
        errors: statuses besides those that every page can have.
        binary: bodies may have tensors after their JSON.
    """

    method: Method
    path: str
    handler: Handler
    summary: str
    reply: str
    request: str = ""
    errors: tuple[int, ...] = ()
    binary: bool = False

    @property
    def name(self) -> str:
        """Of the page, unique."""
        words = [part.strip("{}") for part in self.path.split("/")[1:]]
        return "_".join([self.method.lower(), *words])


# What any page with a body can end with, and what inference can.
_BODY = (408, 413, 415, 429)
_INFERENCE = (404, 500, 503, 504, *_BODY)
_MODEL = "/v2/models/{model}"
_VERSION = "/v2/models/{model}/versions/{version}"
_REPOSITORY = "/v2/repository/models/{model}"

_PLAIN = (
    Route("GET", "/v2", pages.server_metadata, "What this server is", "ServerMetadata"),
    Route("GET", "/openapi.json", pages.openapi, "This document", "OpenApi"),
    Route("GET", "/v2/health/live", pages.live, "That the server answers", "Live"),
    Route(
        "GET",
        "/v2/health/ready",
        pages.ready,
        "Whether every model answers",
        "Ready",
        errors=(503,),
    ),
    Route(
        "POST",
        "/predict",
        predict,
        "Classes and probabilities of an image, or of plain numbers",
        "Prediction",
        "PredictRequest",
        errors=_INFERENCE,
    ),
    Route(
        "POST",
        "/v2/repository/index",
        pages.repository_index,
        "Every version of every model, and whether it answers",
        "RepositoryIndex",
        "RepositoryIndexRequest",
        errors=_BODY,
    ),
)
_OF_MODELS = tuple(
    route
    for model in (_MODEL, _VERSION)
    for route in (
        Route(
            "GET",
            model,
            pages.model_metadata,
            "The signature of a model",
            "ModelMetadata",
            errors=(404,),
        ),
        Route(
            "GET",
            f"{model}/ready",
            pages.model_ready,
            "Whether a model answers",
            "ModelReady",
            errors=(404, 503),
        ),
        Route(
            "POST",
            f"{model}/infer",
            infer,
            "The outputs of a model",
            "InferenceResponse",
            "InferenceRequest",
            errors=_INFERENCE,
            binary=True,
        ),
    )
)
_CONTROL = tuple(
    Route(
        "POST",
        f"{_REPOSITORY}/{action}",
        handler,
        summary,
        "Nothing",
        f"Model{action.capitalize()}Request",
        errors=(403, 404, 500, 503, *_BODY),
    )
    for action, handler, summary in (
        ("load", pages.load, "Serves a model of the registry"),
        ("unload", pages.unload, "Serves a model no more"),
    )
)

ROUTES: tuple[Route, ...] = (*_PLAIN, *_OF_MODELS, *_CONTROL)


class Found(NamedTuple):
    """The pages of a path.

    Attributes:
        by_method: with HEAD where there is GET.
        names: what stands in the places of `{model}` and `{version}`.
    """

    by_method: Mapping[str, Route]
    names: Mapping[str, str]


@functools.lru_cache(maxsize=256)
def find(path: str) -> Found | None:
    """The pages of a path as the request line has it, without a query; None: there are none."""
    try:
        parts = [unquote(part, errors="strict") for part in path.split("/")]
    except UnicodeDecodeError:
        return None
    found: dict[str, Route] = {}
    names: dict[str, str] = {}
    for route in ROUTES:
        given = _names(route.path.split("/"), parts)
        if given is not None:
            found[route.method] = route
            names = given
            if route.method == "GET":
                found["HEAD"] = route
    return Found(found, names) if found else None


def _names(template: list[str], parts: list[str]) -> dict[str, str] | None:
    """What stands in the places of a path; None: it is another path."""
    if len(template) != len(parts):
        return None
    names = {}
    for expected, part in zip(template, parts, strict=True):
        if expected.startswith("{") and part:
            names[expected[1:-1]] = part
        elif expected != part:
            return None
    return names
