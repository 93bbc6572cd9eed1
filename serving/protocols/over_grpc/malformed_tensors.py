"""Requests whose tensors do not fit the model, generated."""

import random
import struct
from collections.abc import Callable

import numpy as np
from inference import grpc_service_pb2 as oip

from serving.core.signature import DTYPES
from serving.protocols.elements import CONTENTS_FIELDS
from serving.protocols.over_grpc.malformed import (
    Malformed,
    echo_request,
    pair_request,
    some_name,
    typed,
)
from serving.testing.grpc_server import infer_request
from serving.testing.served_models import ECHOES

IMAGE = "image FP32 [-1, 8, 8, 1]"
PAIR = "a FP32 [-1, 2], b INT64 [-1]"


def wrong_shape(draw: random.Random) -> Malformed:
    """A shape of other dimensions."""
    request = infer_request()
    while True:
        shape = [
            draw.choice([-1, 0, 1, 2, 7, 8, 64, 2**31, 2**62]) for _ in range(draw.randint(0, 6))
        ]
        if len(shape) != 4 or shape[1:] != [8, 8, 1]:
            break
    request.inputs[0].shape[:] = shape
    return Malformed(
        request.SerializeToString(),
        f"input 'image' has shape {shape}; expected [-1, 8, 8, 1]",
    )


def wrong_batch(draw: random.Random) -> Malformed:
    """A batch that is empty, negative or too large."""
    request = infer_request()
    batch = draw.choice([-(2**63), -2, -1, 0, 9, 10, 2**31, 2**62, 2**63 - 1])
    request.inputs[0].shape[0] = batch
    if draw.random() < 0.5:
        typed(request)
    return Malformed(
        request.SerializeToString(), f"input 'image' has a batch of {batch}; expected 1 to 8"
    )


def wrong_datatype(draw: random.Random) -> Malformed:
    """A datatype that the input has not."""
    request = infer_request()
    datatype = draw.choice([*(set(DTYPES) - {"FP32"}), "BYTES", "f32", "fp32", "", "FP32 "])
    request.inputs[0].datatype = datatype
    return Malformed(
        request.SerializeToString(), f"input 'image' has datatype {datatype!r}; expected FP32"
    )


def wrong_size(draw: random.Random) -> Malformed:
    """Raw contents of another size than the shape says."""
    request = infer_request()
    size = draw.choice([0, 1, 255, 257, 512, 200_000])
    request.raw_input_contents[0] = bytes(size)
    return Malformed(
        request.SerializeToString(), f"input 'image' has {size} bytes; expected 256 for its shape"
    )


def wrong_count(draw: random.Random) -> Malformed:
    """Typed contents of another number."""
    request = typed(infer_request())
    values = request.inputs[0].contents.fp32_contents
    count = draw.choice([0, 1, 63, 65, 1000])
    values[:] = [0.5] * count
    return Malformed(
        request.SerializeToString(),
        f"input 'image' has {count} elements; expected 64 for its shape",
    )


def unexpected_input(draw: random.Random) -> Malformed:
    """An input that the model has not."""
    request, name = infer_request(), some_name(draw)
    if draw.random() < 0.5:
        request.inputs[0].name = name
    else:
        request.inputs.add(name=name, datatype="FP32", shape=[1])
        request.raw_input_contents.append(bytes(4))
    return Malformed(
        request.SerializeToString(), f"unexpected input {name!r}; expected inputs: {IMAGE}"
    )


def missing_input(draw: random.Random) -> Malformed:
    """An input too few."""
    request = pair_request()
    gone = draw.randrange(2)
    del request.inputs[gone], request.raw_input_contents[gone]
    name = "ab"[gone]
    return Malformed(
        request.SerializeToString(), f"missing input {name!r}; expected inputs: {PAIR}"
    )


def input_twice(draw: random.Random) -> Malformed:
    """An input that occurs twice."""
    request = pair_request()
    twice = draw.randrange(2)
    request.inputs.append(request.inputs[twice])
    request.raw_input_contents.append(bytes(8))
    return Malformed(
        request.SerializeToString(),
        f"input {'ab'[twice]!r} occurs twice; expected inputs: {PAIR}",
    )


def batches_differ(draw: random.Random) -> Malformed:
    """Inputs with different batches."""
    first, second = draw.sample(range(1, 9), 2)
    request = pair_request()
    request.inputs[0].shape[0], request.inputs[1].shape[0] = first, second
    request.raw_input_contents[:] = [bytes(8 * first), bytes(8 * second)]
    return Malformed(
        request.SerializeToString(),
        f"inputs differ in their batch: {first} in 'a', {second} in 'b'; expected the same in all",
    )


def number_of_raw_contents(draw: random.Random) -> Malformed:
    """Another number of raw contents than of inputs."""
    request = pair_request()
    number = draw.choice([1, 3, 4])
    request.raw_input_contents[:] = [bytes(8)] * number
    return Malformed(
        request.SerializeToString(),
        f"raw_input_contents holds {number} entries; expected 2, one for each input",
    )


def raw_and_contents(draw: random.Random) -> Malformed:
    """Both forms at once."""
    request = infer_request()
    request.inputs[0].contents.fp32_contents.extend([1.0] * draw.choice([0, 1, 64]))
    request.inputs[0].contents.SetInParent()
    return Malformed(
        request.SerializeToString(),
        "input 'image' has contents; expected none beside raw_input_contents",
    )


def wrong_field(draw: random.Random) -> Malformed:
    """Typed contents in a field of another datatype."""
    request = typed(infer_request())
    field = draw.choice(sorted(set(CONTENTS_FIELDS.values()) - {"fp32_contents"}))
    getattr(request.inputs[0].contents, field).append(b"1" if field == "bytes_contents" else 1)
    return Malformed(
        request.SerializeToString(), f"input 'image' has {field}; expected fp32_contents for FP32"
    )


def half_precision_in_contents(draw: random.Random) -> Malformed:
    """A datatype that has no typed form, in one."""
    datatype = draw.choice(["FP16", "BF16"])
    request = oip.ModelInferRequest(model_name=f"echo_{datatype.lower()}")
    tensor = request.inputs.add(name="x", datatype=datatype, shape=[1, 3])
    tensor.contents.fp32_contents.extend([1.0] * 3)
    return Malformed(
        request.SerializeToString(), f"output 'y' is {datatype}, which exists in raw form only"
    )


def no_number(draw: random.Random) -> Malformed:
    """NaN and infinity."""
    model = draw.choice([m for m in ECHOES if DTYPES[m.inputs[0].datatype].kind in "fV"])
    values = np.ones(3, DTYPES[model.inputs[0].datatype])
    values[draw.randrange(3)] = draw.choice([np.nan, np.inf, -np.inf])
    request = echo_request(model, values.tobytes())
    if model.inputs[0].datatype in CONTENTS_FIELDS and draw.random() < 0.5:
        typed(request)
    return Malformed(
        request.SerializeToString(), "input 'x' has NaN or infinite values; expected finite ones"
    )


def outside_its_datatype(draw: random.Random) -> Malformed:
    """An integer that its field can hold, and its datatype cannot."""
    datatype = draw.choice(["INT8", "INT16", "UINT8", "UINT16"])
    limits = np.iinfo(DTYPES[datatype])
    request = oip.ModelInferRequest(model_name=f"echo_{datatype.lower()}")
    tensor = request.inputs.add(name="x", datatype=datatype, shape=[1, 3])
    values = [0, 0, limits.max + draw.randint(1, 1000)]
    draw.shuffle(values)
    getattr(tensor.contents, CONTENTS_FIELDS[datatype]).extend(values)
    return Malformed(
        request.SerializeToString(),
        f"input 'x' has values outside {datatype}; expected {limits.min} to {limits.max}",
    )


def no_bool(draw: random.Random) -> Malformed:
    """A byte that is neither true nor false."""
    values = bytes([0, 1, draw.randint(2, 255)])
    request = oip.ModelInferRequest(model_name="echo_bool", raw_input_contents=[values])
    request.inputs.add(name="x", datatype="BOOL", shape=[1, 3])
    return Malformed(
        request.SerializeToString(), "input 'x' has a byte that is neither 0 nor 1; expected BOOL"
    )


def no_token(draw: random.Random) -> Malformed:
    """A token that the model does not know."""
    token = draw.choice([256, 257, 2**31 - 1])
    length = draw.randint(1, 4)
    tokens = struct.pack(f"<{length}i", *[0] * (length - 1), token)
    request = oip.ModelInferRequest(model_name="tokens", raw_input_contents=[tokens])
    request.inputs.add(name="tokens", datatype="INT32", shape=[1, length])
    return Malformed(
        request.SerializeToString(),
        f"input 'tokens' has the value {token}; expected values below 256",
    )


def long_sequence(draw: random.Random) -> Malformed:
    """A sequence longer than the model takes, or empty."""
    length = draw.choice([-1, 0, 5, 1000])
    request = oip.ModelInferRequest(
        model_name="tokens", raw_input_contents=[bytes(4 * max(length, 0))]
    )
    request.inputs.add(name="tokens", datatype="INT32", shape=[1, length])
    return Malformed(
        request.SerializeToString(),
        f"input 'tokens' has shape [1, {length}]; expected [-1, 4], where dimension 1 may be "
        "shorter",
    )


# Each with how many to make of it.
KINDS: list[tuple[Callable[[random.Random], Malformed], int]] = [
    (wrong_shape, 12),
    (wrong_batch, 9),
    (wrong_datatype, 12),
    (wrong_size, 6),
    (wrong_count, 5),
    (unexpected_input, 8),
    (missing_input, 3),
    (input_twice, 3),
    (batches_differ, 5),
    (number_of_raw_contents, 4),
    (raw_and_contents, 3),
    (wrong_field, 7),
    (half_precision_in_contents, 3),
    (no_number, 12),
    (outside_its_datatype, 6),
    (no_bool, 4),
    (no_token, 5),
    (long_sequence, 4),
]
