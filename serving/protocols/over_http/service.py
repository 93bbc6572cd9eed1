"""Inference over HTTP: by the Open Inference Protocol, and by `POST /predict`."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from serving.core.engine import Engine
from serving.core.errors import ServingError, invalid
from serving.core.images import Picture
from serving.core.model import ServedModel
from serving.core.model_control import ModelControl
from serving.core.request import Inputs
from serving.core.request import Protocol as Way
from serving.core.signature import DTYPES
from serving.core.validation import check_arrays
from serving.protocols.over_http.body import Uploads, read_body
from serving.protocols.over_http.calls import Exchange
from serving.protocols.over_http.config import HttpConfig
from serving.protocols.over_http.conversion import Form, decode, reply_of
from serving.protocols.over_http.image_reader import ImageReader
from serving.protocols.over_http.inference_request import (
    InferenceRequest,
    header_length_of,
    parse_inference,
)
from serving.protocols.over_http.json_objects import parse_object
from serving.protocols.over_http.plain_inputs import plain_inputs
from serving.protocols.over_http.prediction import (
    PredictRequest,
    logits_of,
    parse_predict,
    predictions,
)
from serving.protocols.over_http.replies import HEADER_LENGTH, Reply, json_reply
from serving.protocols.request_ids import check_lengths


class Service(NamedTuple):
    """What pages answer with.

    Attributes:
        engine: answers requests.
        config: the limits.
        control: loads and unloads; None: clients may not.
        uploads: the bodies that are being read.
        images: decodes pictures.
        document: what describes all pages, as JSON.
    """

    engine: Engine
    config: HttpConfig
    control: ModelControl | None
    uploads: Uploads
    images: ImageReader
    document: bytes = b"{}"


async def infer(service: Service, exchange: Exchange) -> Reply:
    """Answers a request of the Open Inference Protocol.

    Raises:
        ServingError: It was not answered.
    """
    model, version = exchange.names["model"], exchange.names.get("version", "")
    deadline = exchange.arrived + service.config.timeout_s
    body: bytes | bytearray = b""
    try:
        check_lengths(model, version, "")
        deadline = exchange.deadline(service.config.timeout_s)
        body = await read_body(exchange.http, service.config, service.uploads, deadline)
        length = header_length_of(exchange.http.headers.get(HEADER_LENGTH))
        request = parse_inference(body, length, service.config.max_json_bytes)
        check_lengths(model, version, request.head.id or "")
    except ServingError as error:
        # The engine refuses it, since it knows what to tell metrics and the log.
        call = exchange.call(Way.REST, model, version, size_bytes=len(body), deadline=deadline)
        await service.engine.infer(call, _refuse(error))
        raise
    call = exchange.call(
        Way.REST,
        model,
        version,
        size_bytes=len(body),
        deadline=deadline,
        parameters=request.head.parameters,
    )
    reading = _Reading(request)
    answer = await service.engine.infer(call, reading.decode)
    return reply_of(answer, request.head.id, reading.forms, reading.labels)


async def predict(service: Service, exchange: Exchange) -> Reply:
    """Answers with classes and probabilities.

    Raises:
        ServingError: It was not answered.
    """
    engine, name, version = service.engine, "", ""
    with suppress(ServingError):  # there is none yet, which the engine says
        name = engine.default_model().name
    deadline = exchange.arrived + service.config.timeout_s
    body: bytes | bytearray = b""
    picture: Picture | None = None
    try:
        deadline = exchange.deadline(service.config.timeout_s)
        body = await read_body(exchange.http, service.config, service.uploads, deadline)
        given = parse_object("the request", body, service.config.max_json_bytes)
        request = parse_predict(given)
        check_lengths(request.model, request.version, "")
        name, version = request.model or name, request.version
        if request.image is not None:
            picture = await _picture(service, request.image, engine.find(name, version), deadline)
    except ServingError as error:
        call = exchange.call(Way.PREDICT, name, version, size_bytes=len(body), deadline=deadline)
        await engine.infer(call, _refuse(error))
        raise
    size = len(body) + (picture.array.nbytes if picture else 0)
    call = exchange.call(Way.PREDICT, name, version, size_bytes=size, deadline=deadline)
    asked: list[ServedModel] = []
    answer = await engine.infer(call, lambda model: _plain(model, request, picture, asked))
    told = predictions(answer, asked[0], request.top_k)
    told |= {"model": answer.model, "version": answer.version, "request_id": exchange.request_id}
    if picture is not None:
        told["image"] = {
            "width": picture.width,
            "height": picture.height,
            "inverted": picture.inverted,
        }
    told["time_ms"] = (time.monotonic() - exchange.arrived) * 1e3
    return json_reply(told)


class _Reading:
    """Decodes a request, and keeps what its reply must know."""

    __slots__ = ("_request", "forms", "labels")

    def __init__(self, request: InferenceRequest) -> None:
        self._request = request
        self.forms: Sequence[Form] = ()
        self.labels: Sequence[str] = ()

    def decode(self, model: ServedModel) -> Inputs:
        """The tensors of the request."""
        inputs, self.forms = decode(self._request, model)
        self.labels = model.class_names
        return inputs


def _refuse(error: ServingError) -> Callable[[ServedModel], Inputs]:
    def decode_nothing(model: ServedModel) -> Inputs:
        raise error

    return decode_nothing


async def _picture(service: Service, image: str, model: ServedModel, deadline: float) -> Picture:
    steps = model.image_preprocessing
    if steps is None:
        inputs = ", ".join(map(str, model.inputs))
        raise invalid(
            f"the artifact of model {model.name!r} {model.version} does not say how an image "
            f'becomes its input; send its numbers as {{"inputs": ...}} instead: {inputs}'
        )
    return await service.images.read(image, steps, deadline)


def _plain(
    model: ServedModel,
    request: PredictRequest,
    picture: Picture | None,
    asked: list[ServedModel],
) -> Inputs:
    """The inputs, and of the outputs those that the reply is made of; `asked` is told the model."""
    asked.append(model)
    logits = logits_of(model)
    outputs = tuple(spec.name for spec in ([logits] if logits else model.outputs))
    if picture is None:
        return Inputs(plain_inputs(model, request.inputs), outputs)
    (spec,) = model.inputs
    array = picture.array.astype(DTYPES[spec.datatype], copy=False)
    return Inputs(check_arrays(model, {spec.name: array}), outputs)
