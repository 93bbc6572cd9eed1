"""An inference request of the Open Inference Protocol over REST, before a model is known.

Reference: https://github.com/kserve/open-inference-protocol, "HTTP/REST", and docs/protocol/
extension_binary_data.md of https://github.com/triton-inference-server/server.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from serving.core.errors import ServingError, invalid, quote
from serving.core.validation import TensorHeader
from serving.protocols.over_http.json_objects import (
    Json,
    Keys,
    optional_text,
    parameters_of,
    parse_object,
    text_of,
)
from serving.protocols.over_http.replies import HEADER_LENGTH
from serving.protocols.parameters import (
    NO_OUTPUT_PARAMETERS,
    NO_REQUEST_PARAMETERS,
    OutputParameters,
    RequestParameters,
    binary_data_size,
    output_parameters,
    request_parameters,
)

# Clients send the names of model and version, too; what the URL says holds.
_REQUEST = Keys("inputs", optional=("id", "parameters", "outputs", "model_name", "model_version"))
_INPUT = Keys("name", "shape", "datatype", optional=("data", "parameters"))

# Of heads that are kept.
_MAX_KNOWN_BYTES = 1024

_INTEGER = frozenset([int])  # and not bool, which is one to Python
_OUTPUT = Keys("name", optional=("parameters",))


class Input(NamedTuple):
    """One input as a request states it.

    Attributes:
        header: name, datatype and shape.
        data: as JSON had it, if it is not binary.
        place: of its bytes, in what follows the JSON; None: it is JSON.
    """

    header: TensorHeader
    data: Any
    place: slice | None


class Wanted(NamedTuple):
    """One output as a request asks for it."""

    name: str
    parameters: OutputParameters


class Head:
    """What the JSON of a request says, of which nothing was compared with a model yet.

    Args:
        message_id: the field `id`; None: there is none, and the answer has none.
        parameters: of the request.
        inputs: in its order.
        outputs: in its order; none: all of them.
        num_bytes: that must follow the JSON.

    Attributes:
        plan: what was made of it for a model; whoever makes it keeps it here.
    """

    __slots__ = ("id", "inputs", "num_bytes", "outputs", "parameters", "plan")

    def __init__(
        self,
        message_id: str | None = None,
        parameters: RequestParameters = NO_REQUEST_PARAMETERS,
        inputs: Sequence[Input] = (),
        outputs: Sequence[Wanted] = (),
        num_bytes: int = 0,
    ) -> None:
        self.id = message_id
        self.parameters = parameters
        self.inputs = inputs
        self.outputs = outputs
        self.num_bytes = num_bytes
        self.plan: Any = None


# Of a request without JSON: its body is the only input, and nothing else was said.
RAW = Head()


class InferenceRequest(NamedTuple):
    """A request.

    Attributes:
        head: what its JSON says, or RAW.
        binary: what follows the JSON.
    """

    head: Head
    binary: memoryview


def parse_inference(
    body: bytes | bytearray, header_length: int | None, max_json_bytes: int
) -> InferenceRequest:
    """Reads a request.

    Args:
        body: all of it.
        header_length: bytes of its JSON; None: all of it is JSON; 0: there is no JSON, and it is
            the only input of the model.
        max_json_bytes: that are parsed.

    Raises:
        ServingError: INVALID or TOO_LARGE.
    """
    content = memoryview(body)
    if not content.readonly:
        content = content.toreadonly()
    if header_length == 0:
        return InferenceRequest(RAW, content)
    if header_length is None:
        header_length = len(content)
    if header_length > len(content):
        raise invalid(
            f"{HEADER_LENGTH} is {header_length}; expected at most {len(content)}, as the body has"
        )
    text, binary = content[:header_length], content[header_length:]
    if binary and header_length <= _MAX_KNOWN_BYTES:
        head = _known_head(bytes(text))
    else:
        head = _read_head(text, max_json_bytes)
    if head.num_bytes != len(binary):
        raise _other_length(head, len(binary))
    return InferenceRequest(head, binary)


def header_length_of(text: str | None) -> int | None:
    """The value of the header that says how long the JSON is; None: there is no such header.

    Raises:
        ServingError: INVALID.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise invalid(f"{HEADER_LENGTH} is {quote(text)}; expected the number of bytes of the JSON")
    return int(text)


@functools.lru_cache(maxsize=256)
def _known_head(text: bytes) -> Head:
    """The head of a request with binary tensors.

    A client sends the same one again and again, since all that differs is in the tensors.
    """
    return _read_head(text, _MAX_KNOWN_BYTES)


def _read_head(text: bytes | memoryview, max_json_bytes: int) -> Head:
    request = parse_object("the request", text, max_json_bytes)
    _REQUEST.check("the request", request)
    inputs, num_bytes = _inputs(request["inputs"])
    return Head(
        optional_text("the request", request, "id"),
        _request_parameters(request),
        inputs,
        _outputs(request.get("outputs")),
        num_bytes,
    )


def _other_length(head: Head, length: int) -> ServingError:
    """Says of which input bytes are missing, or how many there are too many."""
    for header, _, place in head.inputs:
        if place is not None and place.stop > length:
            size, left = place.stop - place.start, max(0, length - place.start)
            return invalid(
                f"input {quote(header.name)}: binary_data_size is {size}, but {left} bytes are "
                f"left; expected the JSON, as long as {HEADER_LENGTH} says, and then the bytes of "
                "all binary inputs in their order"
            )
    return invalid(
        f"{length} bytes follow the JSON; expected {head.num_bytes}, the sum of binary_data_size"
    )


def _request_parameters(request: Json) -> RequestParameters:
    given = parameters_of("the request", request)
    return request_parameters(given) if given else NO_REQUEST_PARAMETERS


def _inputs(given: Json) -> tuple[list[Input], int]:
    """The inputs, of which each binary one has its place after the JSON, and where they end."""
    if type(given) is not list:
        raise invalid("inputs: expected a list of objects")
    inputs, end = [], 0
    for index, tensor in enumerate(given):
        name, header = _header(f"inputs[{index}]", tensor)
        size = None
        if "parameters" in tensor:
            where = f"input {quote(name)}"
            size = binary_data_size(name, parameters_of(where, tensor))
        if (size is None) == ("data" not in tensor):
            said = "neither data nor" if size is None else "both data and"
            raise invalid(f"input {quote(name)} has {said} binary_data_size; expected one of them")
        if size is None:
            inputs.append(Input(header, tensor["data"], None))
        else:
            inputs.append(Input(header, None, slice(end, end + size)))
            end += size
    return inputs, end


def _header(where: str, tensor: Json) -> tuple[str, TensorHeader]:
    _INPUT.check(where, tensor)
    name, shape = text_of(where, tensor, "name"), tensor["shape"]
    if type(shape) is not list or not _INTEGER.issuperset(map(type, shape)):
        raise invalid(f"input {quote(name)}: shape: expected a list of whole numbers")
    return name, TensorHeader(name, text_of(where, tensor, "datatype"), shape)


def _outputs(given: Json) -> list[Wanted]:
    if given is None:
        return []
    if type(given) is not list:
        raise invalid("outputs: expected a list of objects")
    outputs = []
    for index, output in enumerate(given):
        where = f"outputs[{index}]"
        _OUTPUT.check(where, output)
        name, parameters = text_of(where, output, "name"), NO_OUTPUT_PARAMETERS
        if "parameters" in output:
            parameters = output_parameters(name, parameters_of(f"output {quote(name)}", output))
        outputs.append(Wanted(name, parameters))
    return outputs
