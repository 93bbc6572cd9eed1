"""A request for inference in gRPC's form: what is known at once, and its tensors afterwards."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from inference import grpc_service_pb2 as oip

from serving.core.errors import invalid
from serving.core.model import ServedModel
from serving.core.request import Call, Inputs, Protocol
from serving.core.signature import TensorSpec
from serving.core.validation import TensorHeader, read_inputs, wanted_outputs
from serving.protocols.classification import check_classification
from serving.protocols.elements import CONTENTS_FIELDS, TensorContentError, from_contents, from_raw
from serving.protocols.over_grpc.answer_form import AnswerForm, WantedOutput
from serving.protocols.over_grpc.messages import Received
from serving.protocols.parameters import (
    NO_REQUEST_PARAMETERS,
    RequestParameters,
    Value,
    binary_data_size,
    output_parameters,
    request_parameters,
)
from serving.protocols.request_ids import check_lengths


class InferRequest:
    """A request for inference.

    Args:
        received: The message.

    Attributes:
        model: The name that it asks for.
        version: The version, or "".
        id: The caller's, repeated in the answer.
        parameters: Of the whole request.
        form: Of its answer; known once `inputs` was called.

    Raises:
        ServingError: INVALID: a name or a parameter is refused.
    """

    __slots__ = ("_received", "form", "id", "model", "parameters", "version")

    def __init__(self, received: Received) -> None:
        message = received.message
        self._received = received
        self.model = message.model_name
        self.version = message.model_version
        self.id = message.id
        check_lengths(self.model, self.version, self.id)
        given = message.parameters
        self.parameters = request_parameters(_values(given)) if given else NO_REQUEST_PARAMETERS
        self.form: AnswerForm | None = None

    def call(self, protocol: Protocol, request_id: str, client: str, waits_s: float) -> Call:
        """What is known before the tensors are read; the arguments are those of `call_of`."""
        size_bytes = self._received.size_bytes
        known = (self.model, self.version, self.parameters, size_bytes)
        return call_of(*known, protocol, request_id, client, waits_s)

    @property
    def message(self) -> oip.ModelInferRequest:
        """The message, without its raw contents if it is large."""
        return self._received.message

    def inputs(self, model: ServedModel) -> Inputs:
        """The tensors, checked against a model's signature.

        Raises:
            ServingError: INVALID; the message names the tensor and what is expected.
        """
        message, raw, _ = self._received
        if raw and len(raw) != len(message.inputs):
            raise invalid(
                f"raw_input_contents holds {len(raw)} entries; expected {len(message.inputs)}, one "
                "for each input"
            )
        _check_form(
            "the request: binary_data_output", self.parameters.binary_data_output, bool(raw)
        )
        self.form = form = AnswerForm(model, _wanted(message, model, bool(raw)), bool(raw))
        headers = [TensorHeader(t.name, t.datatype, t.shape[:]) for t in message.inputs]
        return Inputs(read_inputs(model, headers, self._elements), form.names)

    def _elements(self, index: int, num_elements: int) -> np.ndarray:
        tensor, raw = self._received.message.inputs[index], self._received.raw
        content = raw[index] if raw else None
        if tensor.parameters:
            _check_size(tensor, None if content is None else len(content))
        where = f"input {tensor.name!r}"
        try:
            if content is None:
                return from_contents(where, tensor.datatype, tensor.contents, num_elements)
            if tensor.HasField("contents"):
                raise invalid(f"{where} has contents; expected none beside raw_input_contents")
            return from_raw(where, tensor.datatype, content, num_elements)
        except TensorContentError as error:
            raise invalid(str(error)) from error


def call_of(
    model: str,
    version: str,
    parameters: RequestParameters,
    size_bytes: int,
    protocol: Protocol,
    request_id: str,
    client: str,
    waits_s: float,
) -> Call:
    """What is known of a request before its tensors are read.

    Args:
        model: The name that it asks for.
        version: The version, or "".
        parameters: Of the request.
        size_bytes: What it holds in memory.
        protocol: By which way it came.
        request_id: Of the whole call.
        client: The peer's address without its port.
        waits_s: How long the caller waits, unless the parameters say that it is less.
    """
    priority, timeout_s, _ = parameters
    if timeout_s is not None and timeout_s < waits_s:
        waits_s = timeout_s
    deadline = time.monotonic() + waits_s
    return Call(protocol, model, version, request_id, client, size_bytes, deadline, priority)


def _wanted(
    message: oip.ModelInferRequest, model: ServedModel, raw: bool
) -> Sequence[WantedOutput]:
    """The outputs that a request asks for, and each in the form that it asks for."""
    requested = message.outputs
    specs = wanted_outputs(model, [output.name for output in requested])
    if requested:
        parameters = [_values(output.parameters) for output in requested]
        outputs = [_wanted_output(s, p, raw) for s, p in zip(specs, parameters, strict=True)]
    else:
        outputs = [WantedOutput(spec) for spec in specs]
    for output in outputs:
        if not raw and output.datatype not in CONTENTS_FIELDS:
            raise invalid(
                f"output {output.spec.name!r} is {output.datatype}, which exists in raw form only; "
                "expected raw_input_contents, so that raw_output_contents can answer"
            )
    return outputs


def _wanted_output(spec: TensorSpec, parameters: Mapping[str, Value], raw: bool) -> WantedOutput:
    if not parameters:
        return WantedOutput(spec)
    count, binary_data = output_parameters(spec.name, parameters)
    _check_form(f"output {spec.name!r}: binary_data", binary_data, raw)
    if count:
        check_classification(spec, count)
    return WantedOutput(spec, count)


def _check_form(what: str, binary: bool | None, raw: bool) -> None:
    """A client may say in which form it wants the answer, and must then say what it will be."""
    if binary is not None and binary is not raw:
        raise invalid(
            f"{what} is {str(binary).lower()}; expected {str(raw).lower()}: over gRPC all of an "
            "answer is raw exactly if the request is"
        )


def _check_size(tensor: oip.ModelInferRequest.InferInputTensor, content_bytes: int | None) -> None:
    """A client may say how large a raw tensor is, and must then be right."""
    said = binary_data_size(tensor.name, _values(tensor.parameters))
    if said is not None and said != content_bytes:
        is_ = "not raw" if content_bytes is None else f"{content_bytes} bytes"
        raise invalid(
            f"input {tensor.name!r}: binary_data_size is {said}; expected the size of its entry of "
            f"raw_input_contents, which is {is_}"
        )


def _values(parameters: Mapping[str, oip.InferParameter]) -> dict[str, Value]:
    """The values of a map of parameters; one without a value is an empty string."""
    values: dict[str, Value] = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        values[name] = getattr(parameter, choice) if choice else ""
    return values
