"""Parameters of requests and tensors: each is honoured or refused, none is ignored in silence.

| where   | parameter          | means                                                          |
| request | priority           | 0 as usual, 1 the most urgent, larger ones less so             |
| request | timeout            | microseconds that the caller waits; 0: it does not say         |
| request | binary_data_output | outputs are binary unless they say otherwise; see below        |
| input   | binary_data_size   | HTTP: bytes of the tensor after the JSON; in gRPC its own size |
| output  | binary_data        | this output is binary; see below                               |
| output  | classification     | the k largest values as "value:index:label"                    |

In gRPC an answer has the form of its request, and what says otherwise is refused.

Reference: https://github.com/triton-inference-server/server/tree/main/docs/protocol, "Schedule
Policy", "Classification", "Binary Tensor Data" and "Shared Memory Extension".
"""

from collections.abc import Mapping
from typing import NamedTuple

from serving.core.errors import ServingError, invalid, quote

# What a parameter can be, in JSON and in gRPC's InferParameter.
Value = bool | int | float | str

_MAX_PRIORITY = 2**32 - 1
_MAX_INT64 = 2**63 - 1

_OF_REQUESTS = "priority, timeout, binary_data_output"
_OF_INPUTS = "binary_data_size"
_OF_OUTPUTS = "binary_data, classification"


class RequestParameters(NamedTuple):
    """Those of a whole request.

    Attributes:
        priority: As of `Call`.
        timeout_s: How long the caller waits; None: it does not say.
        binary_data_output: Outputs are binary unless they say otherwise; None: it does not say.
    """

    priority: int = 0
    timeout_s: float | None = None
    binary_data_output: bool | None = None


class OutputParameters(NamedTuple):
    """Those of a requested output.

    Attributes:
        classification: How many of the largest values, as strings; 0: the output as it is.
        binary_data: It is binary; None: it does not say.
    """

    classification: int = 0
    binary_data: bool | None = None


NO_REQUEST_PARAMETERS = RequestParameters()
NO_OUTPUT_PARAMETERS = OutputParameters()


def request_parameters(given: Mapping[str, Value]) -> RequestParameters:
    """Reads the parameters of a request.

    Raises:
        ServingError: INVALID; the message says what is accepted.
    """
    read = NO_REQUEST_PARAMETERS
    for name, value in given.items():
        if name == "priority":
            read = read._replace(priority=_integer("priority", value, 0, _MAX_PRIORITY))
        elif name == "timeout":
            timeout_us = _integer("timeout", value, 0, _MAX_INT64)
            read = read._replace(timeout_s=timeout_us / 1e6 if timeout_us else None)
        elif name == "binary_data_output":
            read = read._replace(binary_data_output=_boolean("binary_data_output", value))
        elif name.startswith("sequence_"):
            raise invalid(
                f"parameter {quote(name)}: models here keep no state between requests; "
                f"accepted: {_OF_REQUESTS}"
            )
        else:
            raise _unknown("the request", name, _OF_REQUESTS)
    return read


def binary_data_size(input_name: str, given: Mapping[str, Value]) -> int | None:
    """The only parameter of an input: how many bytes it has in binary form; None: it has none.

    Raises:
        ServingError: INVALID.
    """
    size = None
    for name, value in given.items():
        where = f"input {quote(input_name)}"
        if name == "binary_data_size":
            size = _integer(f"{where}: binary_data_size", value, 0, _MAX_INT64)
        else:
            raise _unknown(where, name, _OF_INPUTS)
    return size


def output_parameters(output_name: str, given: Mapping[str, Value]) -> OutputParameters:
    """Reads the parameters of a requested output.

    Raises:
        ServingError: INVALID.
    """
    read = NO_OUTPUT_PARAMETERS
    for name, value in given.items():
        where = f"output {quote(output_name)}"
        if name == "classification":
            count = _integer(f"{where}: classification", value, 1, _MAX_INT64)
            read = read._replace(classification=count)
        elif name == "binary_data":
            read = read._replace(binary_data=_boolean(f"{where}: binary_data", value))
        else:
            raise _unknown(where, name, _OF_OUTPUTS)
    return read


def _unknown(where: str, name: str, accepted: str) -> ServingError:
    if name.startswith("shared_memory_"):
        # Memory that a client names is memory that a client can reach.
        return invalid(
            f"{where}: parameter {quote(name)}: shared memory is not served; "
            "send the content in the message"
        )
    return invalid(f"{where}: unknown parameter {quote(name)}; accepted: {accepted}")


def _integer(what: str, value: Value, smallest: int, largest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise invalid(
            f"{what} is {_shown(value)}; expected an integer from {smallest} to {largest}"
        )
    return value


def _boolean(what: str, value: Value) -> bool:
    if not isinstance(value, bool):
        raise invalid(f"{what} is {_shown(value)}; expected true or false")
    return value


def _shown(value: Value) -> str:
    """A value so that text is not taken for the number or the boolean that it spells."""
    return f"the string {quote(value)}" if isinstance(value, str) else quote(str(value))
