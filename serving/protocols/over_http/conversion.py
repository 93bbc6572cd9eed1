"""An inference request of the Open Inference Protocol over REST, for a model, and its answer.

Reference: https://github.com/kserve/open-inference-protocol, "HTTP/REST", and docs/protocol/
extension_binary_data.md of https://github.com/triton-inference-server/server.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.core.errors import invalid
from serving.core.model import ServedModel
from serving.core.request import Answer, Arrays, Inputs
from serving.core.signature import DTYPES, TensorSpec
from serving.core.validation import (
    TensorHeader,
    check_headers,
    check_values,
    read_inputs,
    wanted_outputs,
)
from serving.protocols.classification import check_classification, classify
from serving.protocols.elements import BYTES, TensorContentError, from_raw
from serving.protocols.over_http.inference_request import RAW, Head, InferenceRequest, Input
from serving.protocols.over_http.json_tensors import BINARY_ONLY, elements_of, from_array
from serving.protocols.over_http.replies import HEADER_LENGTH, OCTETS, Reply, json_reply
from serving.protocols.parameters import NO_OUTPUT_PARAMETERS

_LENGTH_BYTES = 4


class Form(NamedTuple):
    """How one output is to be sent.

    Attributes:
        spec: which.
        classification: so many of its largest values as strings; 0: as it is.
        binary: its bytes after the JSON.
    """

    spec: TensorSpec
    classification: int
    binary: bool


class Plan(NamedTuple):
    """How requests with one head are read for one model: all that does not depend on the tensors.

    Attributes:
        model: which.
        inputs: for each of its inputs, in order, the one of the request and its number of elements.
        outputs: names of those that are wanted.
        forms: how they are to be sent.
    """

    model: ServedModel
    inputs: Sequence[tuple[TensorSpec, Input, int]]
    outputs: tuple[str, ...]
    forms: Sequence[Form]


def decode(request: InferenceRequest, model: ServedModel) -> tuple[Inputs, Sequence[Form]]:
    """Compares a request with a model.

    Returns:
        Its tensors, and how its outputs are to be sent.

    Raises:
        ServingError: INVALID; the message names the tensor and what is expected of it.
    """
    head, binary = request
    if head is RAW:
        forms = [Form(spec, 0, binary=True) for spec in model.outputs]
        return Inputs(_raw_input(model, binary), tuple(s.name for s in model.outputs)), forms
    plan: Plan | None = head.plan
    if plan is None or plan.model is not model:
        plan = head.plan = _plan(head, model)
    arrays = {}
    for spec, (header, data, place), count in plan.inputs:
        if place is None:
            where = f"input {spec.name!r}"
            elements = elements_of(where, spec.datatype, data, header.shape)
        else:
            elements = _from_binary(header, binary[place], count)
        check_values(spec, elements)
        arrays[spec.name] = elements.reshape(header.shape)
    return Inputs(arrays, plan.outputs), plan.forms


def reply_of(
    answer: Answer, request_id: str | None, forms: Sequence[Form], labels: Sequence[str]
) -> Reply:
    """An answer as it is sent, with binary tensors after the JSON if there are any.

    Args:
        answer: of the model.
        request_id: the field `id` of the request.
        forms: how its outputs are to be sent.
        labels: of the model's classes, or none.

    Raises:
        ServingError: INVALID: an output cannot be sent as JSON.
    """
    outputs, tail = [], []
    for spec, count, binary in forms:
        array, datatype = answer.outputs[spec.name], spec.datatype
        if count:
            array, datatype = classify(array, count, labels), BYTES
        output: dict[str, Any] = {"name": spec.name, "datatype": datatype, "shape": array.shape}
        if binary:
            content = _to_binary(datatype, array)
            output["parameters"] = {"binary_data_size": len(content)}
            tail.append(content)
        else:
            output["data"] = from_array(spec.name, datatype, array)
        outputs.append(output)
    head = {"model_name": answer.model, "model_version": answer.version, "outputs": outputs}
    if request_id is not None:
        head["id"] = request_id
    written = json_reply(head)
    if not tail:
        return written
    length = str(len(written.body))
    return Reply(200, b"".join([written.body, *tail]), OCTETS, {HEADER_LENGTH: length})


def _plan(head: Head, model: ServedModel) -> Plan:
    """Compares names, datatypes, shapes and outputs with the signature."""
    specs = wanted_outputs(model, [wanted.name for wanted in head.outputs])
    forms = _forms(head, specs)
    check_headers(model, [one.header for one in head.inputs])
    by_name = {one.header.name: one for one in head.inputs}
    ordered = [(spec, by_name[spec.name]) for spec in model.inputs]
    inputs = [(spec, one, math.prod(one.header.shape)) for spec, one in ordered]
    return Plan(model, inputs, tuple(spec.name for spec in specs), forms)


def _forms(head: Head, specs: Sequence[TensorSpec]) -> list[Form]:
    """What the request says of each output."""
    default = bool(head.parameters.binary_data_output)
    given = [wanted.parameters for wanted in head.outputs] or [NO_OUTPUT_PARAMETERS] * len(specs)
    forms = []
    for spec, parameters in zip(specs, given, strict=True):
        count = parameters.classification
        binary = default if parameters.binary_data is None else parameters.binary_data
        if count:
            check_classification(spec, count)
        elif not binary and spec.datatype in BINARY_ONLY:
            raise invalid(
                f"output {spec.name!r} is {spec.datatype}, which has no form in JSON; expected "
                "binary_data true of that output, or binary_data_output true of the request"
            )
        forms.append(Form(spec, count, binary))
    return forms


def _raw_input(model: ServedModel, content: memoryview) -> Arrays:
    """The body as the only input, one example, whose size tells the one open dimension."""
    if len(model.inputs) != 1:
        inputs = ", ".join(map(str, model.inputs))
        raise invalid(
            f"{HEADER_LENGTH} is 0, as of a model of one input; expected JSON for {inputs}"
        )
    (spec,) = model.inputs
    shape = [1, *spec.shape[1:]]
    if shape.count(-1) > 1:
        raise invalid(f"{HEADER_LENGTH} is 0, but no number of bytes tells the shape of {spec}")
    if -1 in shape:
        known = math.prod(size for size in shape if size != -1)
        shape[shape.index(-1)] = len(content) // (known * DTYPES[spec.datatype].itemsize)
    header = TensorHeader(spec.name, spec.datatype, shape)
    return read_inputs(model, [header], lambda _, count: _from_binary(header, content, count))


def _from_binary(header: TensorHeader, content: memoryview, count: int) -> np.ndarray:
    try:
        return from_raw(f"input {header.name!r}", header.datatype, content, count)
    except TensorContentError as error:
        raise invalid(str(error)) from None


def _to_binary(datatype: str, array: np.ndarray) -> bytes | memoryview:
    if datatype == BYTES:
        strings = array.ravel()
        return b"".join(len(one).to_bytes(_LENGTH_BYTES, "little") + one for one in strings)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
