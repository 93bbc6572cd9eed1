"""Each parameter is honoured, or refused by its name with what is accepted."""

from collections.abc import Callable

import pytest

from serving.core.errors import Kind, ServingError
from serving.protocols.parameters import (
    OutputParameters,
    RequestParameters,
    Value,
    binary_data_size,
    output_parameters,
    request_parameters,
)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({}, RequestParameters()),
        ({"priority": 0}, RequestParameters(priority=0)),
        ({"priority": 1}, RequestParameters(priority=1)),
        ({"priority": 2**32 - 1}, RequestParameters(priority=2**32 - 1)),
        ({"timeout": 1}, RequestParameters(timeout_s=1e-6)),
        ({"timeout": 2_500_000, "priority": 3}, RequestParameters(3, 2.5)),
        ({"timeout": 0}, RequestParameters()),
        ({"binary_data_output": True}, RequestParameters(binary_data_output=True)),
        ({"binary_data_output": False}, RequestParameters(binary_data_output=False)),
    ],
)
def test_parameters_of_requests_are_honoured(
    given: dict[str, Value], read: RequestParameters
) -> None:
    assert request_parameters(given) == read


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({}, OutputParameters()),
        ({"classification": 3}, OutputParameters(classification=3)),
        ({"binary_data": False}, OutputParameters(binary_data=False)),
        ({"classification": 1, "binary_data": True}, OutputParameters(1, True)),
    ],
)
def test_parameters_of_outputs_are_honoured(
    given: dict[str, Value], read: OutputParameters
) -> None:
    assert output_parameters("logits", given) == read


def test_an_input_may_state_its_size() -> None:
    assert binary_data_size("image", {}) is None
    assert binary_data_size("image", {"binary_data_size": 256}) == 256


def of_request(given: dict[str, Value]) -> object:
    return request_parameters(given)


def of_input(given: dict[str, Value]) -> object:
    return binary_data_size("image", given)


def of_output(given: dict[str, Value]) -> object:
    return output_parameters("logits", given)


@pytest.mark.parametrize(
    ("read", "given", "message"),
    [
        (of_request, {"colour": 1}, "unknown parameter 'colour'; accepted: priority, timeout"),
        (of_request, {"sequence_id": 7}, "parameter 'sequence_id': models here keep no state"),
        (of_request, {"sequence_start": True}, "'sequence_start': models here keep no state"),
        (of_request, {"priority": -1}, "priority is '-1'; expected an integer from 0"),
        (of_request, {"priority": 2**32}, "priority is '4294967296'; expected an integer from 0"),
        (of_request, {"priority": True}, "priority is 'True'; expected an integer"),
        (of_request, {"priority": 1.0}, "priority is '1.0'; expected an integer"),
        (of_request, {"priority": "high"}, "priority is the string 'high'; expected an"),
        (of_request, {"timeout": -5}, "timeout is '-5'; expected an integer from 0"),
        (of_request, {"timeout": "soon"}, "timeout is the string 'soon'; expected an"),
        (of_request, {"binary_data_output": 1}, "binary_data_output is '1'; expected true or"),
        (of_request, {"x" * 1000: 1}, f"unknown parameter '{'x' * 64}'...; accepted"),
        (of_request, {"timeout": "9" * 1000}, f"timeout is the string '{'9' * 64}'...; expected"),
        (of_input, {"binary_data_size": -1}, "input 'image': binary_data_size is '-1'; expected"),
        (of_input, {"binary_data_size": "1"}, "binary_data_size is the string '1'; expected an"),
        (of_input, {"scale": 2}, "input 'image': unknown parameter 'scale'; accepted: binary_"),
        (of_input, {"shared_memory_region": "r"}, "'shared_memory_region': shared memory is not"),
        (of_output, {"shared_memory_offset": 8}, "'shared_memory_offset': shared memory is not"),
        (of_output, {"classification": 0}, "output 'logits': classification is '0'; expected"),
        (of_output, {"classification": 1.5}, "output 'logits': classification is '1.5'; expected"),
        (of_output, {"binary_data": "yes"}, "binary_data is the string 'yes'; expected true"),
        (of_output, {"topk": 3}, "output 'logits': unknown parameter 'topk'; accepted: binary_"),
    ],
)
def test_anything_else_is_refused(
    read: Callable[[dict[str, Value]], object], given: dict[str, Value], message: str
) -> None:
    with pytest.raises(ServingError) as error:
        read(given)
    assert message in error.value.message
    assert error.value.kind is Kind.INVALID
    assert len(error.value.message) < 300
