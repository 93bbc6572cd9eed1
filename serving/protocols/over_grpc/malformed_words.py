"""Requests whose names, parameters or very bytes are wrong, generated."""

import random
from collections.abc import Callable

import grpc

from serving.protocols.over_grpc.malformed import (
    Malformed,
    as_protobuf_reads,
    some_name,
    typed,
)
from serving.testing.grpc_server import infer_request

NOT_FOUND = grpc.StatusCode.NOT_FOUND


def unknown_output(draw: random.Random) -> Malformed:
    """An output that the model has not."""
    request, name = infer_request(), some_name(draw)
    request.outputs.add(name=name)
    return Malformed(
        request.SerializeToString(),
        f"unknown output {name!r}; expected outputs: logits FP32 [-1, 10]",
    )


def output_twice(_: random.Random) -> Malformed:
    """An output that is wanted twice."""
    request = infer_request()
    for _twice in range(2):
        request.outputs.add(name="logits")
    return Malformed(request.SerializeToString(), "output 'logits' is requested twice")


def wrong_classification(draw: random.Random) -> Malformed:
    """More classes than there are, or none."""
    request = infer_request()
    count = draw.choice([-1, 0, 11, 2**62])
    request.outputs.add(name="logits").parameters["classification"].int64_param = count
    message = f"output 'logits': classification is {count}; expected 1 to 10"
    if count < 1:
        message = f"output 'logits': classification is '{count}'; expected an integer from 1"
    return Malformed(request.SerializeToString(), message)


def unknown_parameter(draw: random.Random) -> Malformed:
    """A parameter that means nothing here."""
    request, name = infer_request(), f"my_{some_name(draw)}"
    where = draw.choice(["the request", "input 'image'", "output 'logits'"])
    holder = {
        "the request": request,
        "input 'image'": request.inputs[0],
        "output 'logits'": request.outputs.add(name="logits"),
    }[where]
    holder.parameters[name].string_param = "x"
    return Malformed(
        request.SerializeToString(), f"{where}: unknown parameter {name!r}; accepted: "
    )


def refused_parameter(draw: random.Random) -> Malformed:
    """A parameter of an extension that is refused."""
    request = infer_request()
    if draw.random() < 0.5:
        name = draw.choice(["sequence_id", "sequence_start", "sequence_end"])
        request.parameters[name].int64_param = 7
        return Malformed(
            request.SerializeToString(), f"parameter {name!r}: models here keep no state"
        )
    name = draw.choice(["region", "offset", "byte_size"])
    request.inputs[0].parameters[f"shared_memory_{name}"].string_param = "region"
    return Malformed(
        request.SerializeToString(),
        f"input 'image': parameter 'shared_memory_{name}': shared memory is not served",
    )


def wrong_parameter(draw: random.Random) -> Malformed:
    """A parameter of another type or size."""
    request = infer_request()
    name = draw.choice(["timeout", "priority"])
    field, value = draw.choice(
        [("int64_param", -1), ("double_param", 1.5), ("string_param", "x"), ("bool_param", True)]
    )
    setattr(request.parameters[name], field, value)
    shown = f"the string {value!r}" if isinstance(value, str) else repr(str(value))
    return Malformed(
        request.SerializeToString(), f"{name} is {shown}; expected an integer from 0 to "
    )


def wrong_binary_size(draw: random.Random) -> Malformed:
    """A size that is not the tensor's."""
    request = infer_request()
    said = draw.choice([0, 255, 257, 2**40])
    request.inputs[0].parameters["binary_data_size"].int64_param = said
    return Malformed(
        request.SerializeToString(),
        f"input 'image': binary_data_size is {said}; expected the size of its entry of "
        "raw_input_contents, which is 256 bytes",
    )


def other_form(draw: random.Random) -> Malformed:
    """A form of the answer that is not the request's."""
    request = infer_request()
    raw = draw.random() < 0.5
    if not raw:
        typed(request)
    what = draw.choice(["the request: binary_data_output", "output 'logits': binary_data"])
    holder = request if what.startswith("the") else request.outputs.add(name="logits")
    holder.parameters[what.split()[-1]].bool_param = not raw
    told = f"{what} is {str(not raw).lower()}; expected {str(raw).lower()}: over gRPC all of an"
    return Malformed(request.SerializeToString(), told)


def long_name(draw: random.Random) -> Malformed:
    """Names and ids without an end."""
    field = draw.choice(["id", "model_name", "model_version"])
    size = draw.choice([257, 1000, 300_000])
    request = infer_request()
    setattr(request, field, "x" * size)
    return Malformed(request.SerializeToString(), f"{field} has {size} bytes; expected at most 256")


def other_model(draw: random.Random) -> Malformed:
    """A model that is not served, or a path."""
    request = infer_request()
    name = draw.choice(
        ["", "Digits", "digits ", "../digits", "digits/1", "/etc/passwd", "digits\0"]
    )
    request.model_name = name
    return Malformed(
        request.SerializeToString(), f"unknown model {name!r}; served here: 'digits'", NOT_FOUND
    )


def other_version(draw: random.Random) -> Malformed:
    """A version that is not served."""
    request = infer_request(model_version=draw.choice(["1", "1.2", "champion", "-1", "../1.2.3"]))
    return Malformed(
        request.SerializeToString(),
        f"unknown version {request.model_version!r} of 'digits'; served here: '1.2.3'",
        NOT_FOUND,
    )


def no_text(draw: random.Random) -> Malformed:
    """A string that is not UTF-8."""
    request = infer_request(id="????")
    broken = draw.choice([b"\xff\xfe\xff\xfe", b"\xc3\x28\xc3\x28", b"\xed\xa0\x80x"])
    data = request.SerializeToString().replace(b"????", broken)
    return Malformed(data, "the request is no inference.ModelInferRequest: ")


def cut_off(draw: random.Random) -> Malformed:
    """A request without its end."""
    data = infer_request().SerializeToString()
    # Not at an end of a field, where what is left would be a message.
    while True:
        part = data[: draw.randrange(1, len(data))]
        if as_protobuf_reads(part) is None:
            return Malformed(part, "the request is no inference.ModelInferRequest: ")


def noise(draw: random.Random) -> Malformed:
    """Bytes that are no request."""
    while True:
        data = draw.randbytes(draw.randint(1, 200))
        if as_protobuf_reads(data) is None:
            return Malformed(data, "the request is no inference.ModelInferRequest: ")


# Each with how many to make of it.
KINDS: list[tuple[Callable[[random.Random], Malformed], int]] = [
    (unknown_output, 5),
    (output_twice, 1),
    (wrong_classification, 5),
    (unknown_parameter, 6),
    (refused_parameter, 6),
    (wrong_parameter, 6),
    (wrong_binary_size, 4),
    (other_form, 6),
    (long_name, 6),
    (other_model, 7),
    (other_version, 5),
    (no_text, 4),
    (cut_off, 12),
    (noise, 12),
]
