"""What malformed requests are made of, in tests."""

import random
from typing import NamedTuple

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from inference import grpc_service_pb2 as oip

from serving.core.model import ServedModel
from serving.core.signature import DTYPES
from serving.protocols.elements import CONTENTS_FIELDS


class Malformed(NamedTuple):
    """A request, and what the server must say.

    Attributes:
        data: Its bytes.
        message: What the server's message begins with.
        code: The status of the call.
    """

    data: bytes
    message: str
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT


def typed(request: oip.ModelInferRequest) -> oip.ModelInferRequest:
    """The same with typed contents."""
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        values = np.frombuffer(raw, DTYPES[tensor.datatype]).tolist()
        getattr(tensor.contents, CONTENTS_FIELDS[tensor.datatype]).extend(values)
    del request.raw_input_contents[:]
    return request


def pair_request(batch: int = 1) -> oip.ModelInferRequest:
    """Asks the model of two inputs about zeros."""
    request = oip.ModelInferRequest(model_name="pair")
    request.inputs.add(name="a", datatype="FP32", shape=[batch, 2])
    request.inputs.add(name="b", datatype="INT64", shape=[batch])
    request.raw_input_contents.extend([bytes(8 * batch), bytes(8 * batch)])
    return request


def echo_request(model: ServedModel, content: bytes | None = None) -> oip.ModelInferRequest:
    """Asks a model that gives back what it gets."""
    datatype = model.inputs[0].datatype
    request = oip.ModelInferRequest(model_name=model.name)
    request.inputs.add(name="x", datatype=datatype, shape=[1, 3])
    request.raw_input_contents.append(content or bytes(3 * DTYPES[datatype].itemsize))
    return request


def some_name(draw: random.Random) -> str:
    """A name that nobody has, with characters that somebody might use to do harm."""
    return "".join(draw.choice("abcxyz._-/\\ä€ ") for _ in range(draw.randint(1, 12)))


def as_protobuf_reads(data: bytes) -> oip.ModelInferRequest | None:
    """A request, or None if the bytes are none."""
    try:
        return oip.ModelInferRequest.FromString(data)
    except DecodeError:
        return None
