"""What a model answered."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from inference import grpc_service_pb2 as oip

from serving.client.calls import MODEL_INFER, Reply, broken_reply, parsed
from serving.client.encoding import ParameterValue
from serving.client.errors import InferenceError
from serving.client.replies import decode_outputs
from serving.protocols.elements import TensorContentError


@dataclass(frozen=True, slots=True)
class InferResult:
    """What a model answered.

    Attributes:
        outputs: arrays by name, read-only; BYTES are object arrays of Python's bytes.
        model: its name, as the server tells it.
        version: the one that answered.
        id: of the request.
        parameters: what the server says about the answer as a whole.
        trailing: what the server sent after the answer, its id of the request for example.
        attempts: how often the server was asked.
    """

    outputs: Mapping[str, np.ndarray]
    model: str
    version: str
    id: str
    parameters: Mapping[str, ParameterValue]
    trailing: Mapping[str, str | bytes]
    attempts: int

    def __getitem__(self, name: str) -> np.ndarray:
        """An output by its name.

        Raises:
            KeyError: there is none; the message lists those that there are.
        """
        if name not in self.outputs:
            names = ", ".join(map(repr, self.outputs)) or "none"
            raise KeyError(f"no output {name!r}; the answer has {names}")
        return self.outputs[name]


def result_of(
    reply: Reply[oip.ModelInferResponse], wanted: Iterable[str], address: str
) -> InferResult:
    """Reads an answer.

    Args:
        reply: as received, from any server.
        wanted: names of the outputs that were asked for; empty: all.
        address: of the server, for errors.

    Raises:
        InferenceError: with the code INTERNAL: it breaks the protocol, or lacks an output.
    """
    message = reply.message
    try:
        outputs = decode_outputs(message)
    except TensorContentError as error:
        raise broken_reply(address, error) from error
    if missing := [name for name in wanted if name not in outputs]:
        raise broken_reply(address, f"output {missing[0]!r} was asked for and is missing")
    return InferResult(
        outputs=outputs,
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        parameters={name: _value(parameter) for name, parameter in message.parameters.items()},
        trailing=reply.trailing,
        attempts=reply.attempts,
    )


def stream_result_of(content: bytes, address: str) -> InferResult | InferenceError:
    """Reads an answer of a stream, which may be why a request was not answered.

    The protocol has no status there, so that the error's code is UNKNOWN.

    Raises:
        InferenceError: with the code INTERNAL: it breaks the protocol.
    """
    message = _stream_response(content)
    if message is None:
        reply = parsed(MODEL_INFER, content, address)
    elif message.error_message:
        return InferenceError(
            grpc.StatusCode.UNKNOWN,
            message.error_message,
            request_id=message.infer_response.id,
        )
    else:
        reply = message.infer_response
    return result_of(Reply(reply, {}, 1), (), address)


def _stream_response(content: bytes) -> oip.ModelStreamInferResponse | None:
    """Triton's message; None: it is another one. MLServer sends what would be in it without it."""
    try:
        message = oip.ModelStreamInferResponse.FromString(content)
    except DecodeError:
        return None
    return None if len(UnknownFieldSet(message)) else message


def _value(parameter: oip.InferParameter) -> ParameterValue:
    field = parameter.WhichOneof("parameter_choice")
    return "" if field is None else getattr(parameter, field)
