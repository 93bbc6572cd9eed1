"""Bodies of inference requests that are no JSON, no object, or no binary tensors."""

import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from serving.protocols.over_http.testing.malformed import (
    IMAGE,
    SEED,
    Case,
    as_json,
    binary,
    good,
    http,
)


def body_cases() -> Iterator[Case]:
    """All of them."""
    rng = random.Random(SEED)  # noqa: S311
    yield from _binaries(rng)
    yield from _json(rng)
    yield from _objects()


def _binaries(rng: random.Random) -> Iterator[Case]:
    for size in sorted(rng.sample([*range(256), *range(257, 2000)], 12)):
        tail = rng.randbytes(size)
        expected = f"input 'image' has {size} bytes; expected 256 for its shape"
        yield Case(f"{size} binary bytes", binary(size, tail), 400, expected)
    for size in (257, 2**31, 2**63 - 1):
        expected = rf"'image': binary_data_size is {size}, but 256 bytes are left; expected"
        yield Case(f"binary_data_size {size}", binary(size), 400, expected)
    expected = "256 bytes follow the JSON; expected 255, the sum of binary_data_size"
    yield Case("binary_data_size one too small", binary(255), 400, expected)
    wrong = IMAGE.copy()
    for value in (np.nan, np.inf, -np.inf):
        wrong[0, rng.randrange(8), rng.randrange(8), 0] = value
        expected = "input 'image' has NaN or infinite values; expected finite ones"
        yield Case(f"binary {value}", binary(tail=wrong.tobytes()), 400, expected)
    head = json.dumps(good(data=..., parameters={"binary_data_size": 256})).encode()
    body = head + IMAGE.tobytes()
    for text in ("-1", "x", "1.0", "0x9", "1e2", "9" * 30):
        request = http(body, Inference_Header_Content_Length=text)
        expected = "Inference-Header-Content-Length is '.*expected the number of bytes of the JSON"
        yield Case(f"header length {text!r}", request, 400, expected)
    for length, expected in (
        (len(body) + 1, f"is {len(body) + 1}; expected at most {len(body)}, as the body has"),
        (len(head) - 1, "no JSON that is accepted here"),
        (len(head) + 1, "no JSON that is accepted here"),
        (1, "no JSON that is accepted here"),
        (0, f"input 'image' has {len(body)} bytes; expected 256 for its shape"),
        (None, "no JSON that is accepted here"),
    ):
        request = http(body, Inference_Header_Content_Length=length)
        yield Case(f"header length {length} of {len(head)}", request, 400, expected)
    both = good(parameters={"binary_data_size": 256})
    expected = "input 'image' has both data and binary_data_size; expected one of them"
    yield as_json("data and binary_data_size", both, expected)
    expected = "input 'image' has neither data nor binary_data_size; expected one of them"
    yield as_json("no data", good(data=...), expected)


def _json(rng: random.Random) -> Iterator[Case]:
    text = json.dumps(good()).encode()
    no_json = "the request is no JSON that is accepted here"
    for length in sorted(rng.sample(range(1, len(text)), 10)):
        yield Case(f"JSON cut at {length}", http(text[:length]), 400, no_json)
    for name, body in {
        "nothing": b"",
        "NaN": text.replace(b"[0.", b"[NaN, 0.", 1),
        "Infinity": text.replace(b"[0.", b"[Infinity, 0.", 1),
        "a number without end": text.replace(b"[0.", b"[1e999, 0.", 1),
        "bytes that are no UTF-8": text.replace(b"image", b"im\xff\xfege"),
        "half a character": text.replace(b"image", b"\\ud800"),
        "a comment": b"/* */" + text,
        "two values": text + text,
        "a comma too many": text.replace(b"]}]}", b"],}]}"),
        "brackets without end": b'{"inputs":' + b"[" * 100_000,
        "objects without end": b'{"a":' * 100_000,
    }.items():
        yield Case(f"JSON with {name}", http(body), 400, no_json)


def _objects() -> Iterator[Case]:
    no_objects: list[Any] = [None, 1, "x", [1], [good()], True]
    for value in no_objects:
        body = json.dumps(value).encode()
        yield Case(f"JSON {body[:9]!r}", http(body), 400, "the request: expected a JSON object")
    accepted = "accepted: inputs, id, parameters, outputs, model_name, model_version"
    yield as_json("another key", good() | {"input": 1}, f"unknown key 'input'; {accepted}")
    yield as_json("no inputs", {"id": "1"}, "inputs is missing; expected inputs, id, parameters")
    yield as_json("inputs null", {"inputs": None}, "inputs: expected a list of objects")
    no_lists: list[Any] = [{}, "x", 1]
    for value in no_lists:
        yield as_json(f"inputs {value!r}", {"inputs": value}, "inputs: expected a list of objects")
        request = good() | {"outputs": value}
        yield as_json(f"outputs {value!r}", request, "outputs: expected a list of objects")
    no_tensors: list[Any] = [None, [], "image", 1]
    for value in no_tensors:
        expected = r"inputs\[0\]: expected an object; its keys: name, shape, datatype"
        yield as_json(f"an input {value!r}", {"inputs": [value]}, expected)
        expected = r"outputs\[0\]: expected an object; its keys: name, parameters"
        yield as_json(f"an output {value!r}", good() | {"outputs": [value]}, expected)
    for key in ("name", "shape", "datatype"):
        expected = rf"inputs\[0\]: {key} is missing; expected name, shape, datatype"
        yield as_json(f"an input without {key}", good(**{key: ...}), expected)
    expected = r"inputs\[0\]: unknown key 'dtype'; accepted: name, shape, datatype, data"
    yield as_json("an input's other key", good(dtype="FP32"), expected)
    yield as_json("an id that is a number", good() | {"id": 7}, "id: expected a string")
    long = good() | {"id": "x" * 257}
    yield as_json("a long id", long, "id has 257 bytes; expected at most 256")
    large = b'{"inputs": "' + b"x" * (8 * 2**20) + b'"}'
    yield Case("JSON too large", http(large), 413, "bytes of JSON; expected at most 8,388,608. La")
