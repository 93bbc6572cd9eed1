"""Pages that compute nothing: what the server and its models are, and whether they are ready."""

import math
from collections.abc import Collection
from http import HTTPStatus
from typing import Any

from serving.core.catalog import State
from serving.core.errors import Kind, ServingError, invalid, quote
from serving.core.model import ServedModel
from serving.core.model_control import ModelControl
from serving.core.signature import TensorSpec
from serving.protocols.over_http.body import read_body
from serving.protocols.over_http.calls import Exchange
from serving.protocols.over_http.json_objects import Keys, parameters_of, parse_object
from serving.protocols.over_http.replies import Reply, json_reply
from serving.protocols.over_http.service import Service
from serving.protocols.request_ids import check_lengths
from serving.protocols.server_facts import EXTENSIONS, NAME, VERSION

# The bodies of these pages are a few bytes.
_MAX_BYTES = 2**16
_INDEX = Keys(optional=("ready",))
_NO_PARAMETERS = "none: a model's configuration is part of its artifact"
_CONTROL = Keys(optional=("parameters",))


async def server_metadata(service: Service, exchange: Exchange) -> Reply:
    """What this server is, and what it honours beyond the protocol."""
    extensions = [*EXTENSIONS, "binary_tensor_data"]
    return json_reply({"name": NAME, "version": VERSION, "extensions": extensions})


async def openapi(service: Service, exchange: Exchange) -> Reply:
    """The document that describes all pages."""
    return Reply(HTTPStatus.OK, service.document)


async def live(service: Service, exchange: Exchange) -> Reply:
    """That the server answers at all."""
    return json_reply({"live": True})


async def ready(service: Service, exchange: Exchange) -> Reply:
    """Whether every model answers, and if not, why."""
    reason = service.engine.server_why_not_ready()
    if reason is None:
        return json_reply({"ready": True})
    return json_reply({"ready": False, "error": reason}, HTTPStatus.SERVICE_UNAVAILABLE)


async def model_metadata(service: Service, exchange: Exchange) -> Reply:
    """The signature of a model, and facts for people."""
    model = _find(service, exchange)
    versions = [s.model.version for s in service.engine.models() if s.model.name == model.name]
    return json_reply(
        {
            "name": model.name,
            "versions": versions,
            "platform": model.platform,
            "inputs": [_tensor(spec) for spec in model.inputs],
            "outputs": [_tensor(spec) for spec in model.outputs],
            "properties": model.properties,
        }
    )


async def model_ready(service: Service, exchange: Exchange) -> Reply:
    """Whether a model answers, and if not, why."""
    model = _find(service, exchange)
    reason = service.engine.why_not_ready(model.name, model.version)
    if reason is None:
        return json_reply({"name": model.name, "ready": True})
    told = {"name": model.name, "ready": False, "error": reason}
    return json_reply(told, HTTPStatus.SERVICE_UNAVAILABLE)


async def repository_index(service: Service, exchange: Exchange) -> Reply:
    """Every version of every model, and whether it answers."""
    body = await _small_body(service, exchange)
    _INDEX.check("the request", body)
    only_ready = body.get("ready", False)
    if type(only_ready) is not bool:
        raise invalid("ready: expected true or false")
    return json_reply(
        [
            {
                "name": model.name,
                "version": model.version,
                "state": state,
                "reason": reason,
            }
            for model, state, reason in service.engine.models()
            if state is State.READY or not only_ready
        ]
    )


async def load(service: Service, exchange: Exchange) -> Reply:
    """Serves a model of the registry, or looks again what its reference means."""
    name, control = await _controlled(service, exchange, ())
    await control.load(name)
    return json_reply({})


async def unload(service: Service, exchange: Exchange) -> Reply:
    """Serves a model no more, once it has answered what it was asked."""
    # No model here depends on another one, so that either value of it means the same.
    name, control = await _controlled(service, exchange, ("unload_dependents",))
    await control.unload(name)
    return json_reply({})


async def _controlled(
    service: Service, exchange: Exchange, parameters: Collection[str]
) -> tuple[str, ModelControl]:
    """The model's name and who loads it, if clients may."""
    if service.control is None:
        raise ServingError(
            Kind.DENIED,
            "models are not loaded or unloaded by clients of this server; its operator can start "
            "it with --allow-model-control",
        )
    body = await _small_body(service, exchange)
    _CONTROL.check("the request", body)
    for name, value in parameters_of("the request", body).items():
        if name not in parameters:
            accepted = ", ".join(parameters) or _NO_PARAMETERS
            raise invalid(f"unknown parameter {quote(name)}; accepted: {accepted}")
        if type(value) is not bool:
            raise invalid(f"{name}: expected true or false")
    model = exchange.names["model"]
    check_lengths(model, "", "")
    return model, service.control


async def _small_body(service: Service, exchange: Exchange) -> dict[str, Any]:
    """An object, which may be left out."""
    body = await read_body(exchange.http, service.config, service.uploads, math.inf)
    return parse_object("the request", body, _MAX_BYTES) if body else {}


def _find(service: Service, exchange: Exchange) -> ServedModel:
    names = exchange.names
    return service.engine.find(names["model"], names.get("version", ""))


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
