"""The document that describes all pages, made of the table of routes.

Reference: https://spec.openapis.org/oas/v3.1.0.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from serving.protocols.over_http.calls import TIMEOUT
from serving.protocols.over_http.replies import HEADER_LENGTH, JSON, OCTETS, json_line
from serving.protocols.over_http.routes import Route
from serving.protocols.over_http.schemas import SCHEMAS
from serving.protocols.request_ids import HEADER
from serving.protocols.server_facts import NAME, VERSION

_PLACE = re.compile(r"{(\w+)}")

_REQUEST_ID = {
    "name": HEADER,
    "in": "header",
    "description": "An id that is sent back and stands in the log; of letters, digits, '.', '_' "
    "and '-', or another one is made.",
    "schema": {"type": "string"},
}
_TIMEOUT = {
    "name": TIMEOUT,
    "in": "header",
    "description": "Milliseconds that the client waits.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 10**15 - 1},
}
_HEADER_LENGTH = {
    "name": HEADER_LENGTH,
    "in": "header",
    "description": "Bytes of the JSON, where binary tensors follow it; 0: the body is the only "
    "input.",
    "schema": {"type": "integer", "minimum": 0},
}
_RETRY_AFTER = {"description": "Seconds to wait before another try.", "schema": {"type": "integer"}}
_ANSWERED_ID = {"description": "The id of the request.", "schema": {"type": "string"}}


def document(routes: Sequence[Route]) -> bytes:
    """The document, as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return json_line(
        {
            "openapi": "3.1.0",
            "info": {
                "title": NAME,
                "version": VERSION,
                "description": "The Open Inference Protocol with Triton's binary tensors and "
                "classification, and /predict for images and plain numbers.",
            },
            "paths": paths,
            "components": {"schemas": SCHEMAS},
        }
    )


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.request:
        content = {JSON: {"schema": _reference(route.request)}}
        if route.binary:
            content[OCTETS] = {}
        # What can be left out has no required key.
        required = "required" in SCHEMAS[route.request] or "oneOf" in SCHEMAS[route.request]
        operation["requestBody"] = {"required": required, "content": content}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    places = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PLACE.findall(route.path)
    ]
    return [
        *places,
        _REQUEST_ID,
        *([_TIMEOUT] if HTTPStatus.GATEWAY_TIMEOUT in route.errors else []),
        *([_HEADER_LENGTH] if route.binary else []),
    ]


def _responses(route: Route) -> dict[str, Any]:
    content = {JSON: {"schema": _reference(route.reply)}}
    if route.binary:
        content[OCTETS] = {}
    responses = {"200": _response("OK", content)}
    for status in sorted({400, *route.errors}):
        # Whether something is ready is told besides the reason why not.
        about = {"schema": _reference("Error")} if route.request else {"schema": _NOT_READY}
        response = _response(HTTPStatus(status).phrase, {JSON: about})
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            response["headers"]["Retry-After"] = _RETRY_AFTER
        responses[str(status)] = response
    return responses


_NOT_READY = {
    "type": "object",
    "properties": {
        "error": {"type": "string"},
        "ready": {"const": False},
        "name": {"type": "string"},
    },
    "required": ["error"],
    "additionalProperties": False,
}


def _response(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "headers": {HEADER: _ANSWERED_ID}, "content": content}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
