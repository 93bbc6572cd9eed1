"""Requests that are wrong in one way each, and what answers them; here: of tensors and names."""

import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from serving.core.signature import DTYPES

# All cases are drawn from it: they are the same each time.
SEED = 18

IMAGE = np.random.default_rng(SEED).random((1, 8, 8, 1), np.float32)
PATH = "/v2/models/digits/infer"
_SIGNATURE = r"expected inputs: image FP32 \[-1, 8, 8, 1\]"


class Case(NamedTuple):
    """A malformed request.

    Attributes:
        name: what is wrong, unique.
        request: all of its bytes.
        status: of the answer.
        message: a pattern that is found in its `error`.
    """

    name: str
    request: bytes
    status: int
    message: str


def http(
    body: bytes,
    path: str = PATH,
    method: str = "POST",
    *,
    length: int | None = None,
    **headers: Any,
) -> bytes:
    """A request as bytes; `_` in the name of a header is `-`."""
    lines = {"Host": "h", "Content-Length": len(body) if length is None else length, **headers}
    head = "".join(
        f"{name.replace('_', '-')}: {value}\r\n"
        for name, value in lines.items()
        if value is not None
    )
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def good(**facts: Any) -> dict[str, Any]:
    """A request that is answered, as JSON, unless facts of its input say otherwise."""
    tensor = {
        "name": "image",
        "datatype": "FP32",
        "shape": list(IMAGE.shape),
        "data": IMAGE.ravel().tolist(),
    }
    return {"inputs": [{key: value for key, value in (tensor | facts).items() if value is not ...}]}


def binary(size: Any = IMAGE.nbytes, tail: bytes = IMAGE.tobytes(), **facts: Any) -> bytes:
    """The same in binary form, with the right header length."""
    parameters = {"binary_data_size": size, **facts}
    head = json.dumps(good(data=..., parameters=parameters)).encode()
    return http(head + tail, Inference_Header_Content_Length=len(head))


def tensor_cases() -> Iterator[Case]:
    """All of them."""
    rng = random.Random(SEED)  # noqa: S311
    yield from _datatypes()
    yield from _shapes(rng)
    yield from _elements(rng)
    yield from _names(rng)
    yield from _parameters()


def as_json(name: str, request: Any, message: str) -> Case:
    """A case whose body is JSON, and that is answered by 400."""
    return Case(name, http(json.dumps(request).encode()), 400, message)


def _datatypes() -> Iterator[Case]:
    for datatype in [*DTYPES, "BYTES", "fp32", "FP32 ", "", "float32", "STRING"]:
        if datatype != "FP32":
            message = f"input 'image' has datatype '{datatype}'; expected FP32"
            yield as_json(f"datatype {datatype!r}", good(datatype=datatype), message)
    others: list[Any] = [None, 32, ["FP32"], {}]
    for other in others:
        message = r"inputs\[0\]: datatype: expected a string"
        yield as_json(f"datatype of kind {other!r}", good(datatype=other), message)


def _shapes(rng: random.Random) -> Iterator[Case]:
    message = r"input 'image' has shape \[.*\].*; expected \[-1, 8, 8, 1\]"
    for number in range(16):
        shape = [1, *(rng.choice([-1, 0, 1, 7, 9, 2**31, 2**63]) for _ in range(3))]
        yield as_json(f"shape {number} {shape}", good(shape=shape), message)
    for shape in ([], [64], [1, 64], [1, 8, 8], [1, 8, 8, 1, 1], [8, 8, 1], [1] * 100):
        yield as_json(f"dimensions {len(shape)} {shape[:4]}", good(shape=shape), message)
    for batch in (0, -1, 9, 2**63 - 1):
        expected = rf"input 'image' has a batch of {batch}; expected 1 to 8"
        yield as_json(f"batch {batch}", good(shape=[batch, 8, 8, 1]), expected)
    others: list[Any] = [None, 64, "64", {}, [1, 8, 8, "1"], [1, 8, 8, 1.0], [[1]], [2**64]]
    for other in [*others, [True, 8, 8, 1]]:
        expected = "input 'image': shape: expected a list of whole numbers"
        yield as_json(f"shape of kind {other!r}", good(shape=other), expected)


def _elements(rng: random.Random) -> Iterator[Case]:
    for count in sorted(rng.sample([*range(64), *range(65, 200)], 12)):
        expected = rf"input 'image' has {count} elements; expected 64 for its shape \[1, 8, 8, 1\]"
        yield as_json(f"{count} elements", good(data=[0.5] * count), expected)
    for element, shown in (
        (None, "null"),
        ("0.5", "a string"),
        (True, "true"),
        (False, "false"),
        ([0.5], "a list"),
        ({}, "an object"),
    ):
        elements: list[Any] = [0.5] * 64
        elements[rng.randrange(1, 64)] = element
        expected = f"input 'image' has the element {shown}; expected numbers for FP32"
        yield as_json(f"an element {element!r}", good(data=elements), expected)
    for value in (1e39, -1e300, 1.7e308):
        expected = "input 'image' has values outside FP32; expected -3.4.* to 3.4"
        yield as_json(f"the value {value}", good(data=[value] * 64), expected)
    for data, shown in ((None, "null"), (0.5, "0.5"), ("0.5", "a string"), ({}, "an object")):
        expected = f"input 'image' has data that is {shown}; expected 64 for its shape"
        yield as_json(f"data of kind {data!r}", good(data=data), expected)
    nested = IMAGE.tolist()
    ragged = json.loads(json.dumps(nested))
    ragged[0][rng.randrange(8)].pop()
    expected = "input 'image' has lists of other lengths; expected 64"
    yield as_json("nested with a list too short", good(data=ragged), expected)
    yield as_json("nested otherwise", good(data=[[0.5] * 64]), expected)
    yield as_json("nested too often", good(data=nested * 2), "has 2 lists; expected 64")


def _names(rng: random.Random) -> Iterator[Case]:
    for name in (
        "",
        "Image",
        "image ",
        "images",
        "../image",
        "im\u0000age",
        "\u202eimage",
        "x" * 300,
    ):
        yield as_json(
            f"input named {name[:10]!r}", good(name=name), f"unexpected input '.*{_SIGNATURE}"
        )
    two = good()
    two["inputs"] *= 2
    yield as_json("an input twice", two, f"input 'image' occurs twice; {_SIGNATURE}")
    yield as_json("no input", {"inputs": []}, f"missing input 'image'; {_SIGNATURE}")
    for name in ("logit", "Logits", "", "x" * 300):
        request = good() | {"outputs": [{"name": name}]}
        expected = r"unknown output '.*; expected outputs: logits FP32 \[-1, 10\]"
        yield as_json(f"output named {name[:10]!r}", request, expected)
    request = good() | {"outputs": [{"name": "logits"}] * 2}
    yield as_json("an output twice", request, "output 'logits' is requested twice; expected outp")
    for model in ("letters", "digits ", "digit", "..%2F..%2Fetc", "%00", "digits%2Finfer", "~"):
        path = f"/v2/models/{model.replace(' ', '%20')}/infer"
        body = json.dumps(good()).encode()
        expected = "unknown model '.*; served here: 'digits'"
        yield Case(f"model {model!r}", http(body, path), 404, expected)
    for version in ("1", "1.2", "champion", "1.2.3%20", str(rng.random())):
        path = f"/v2/models/digits/versions/{version}/infer"
        expected = "unknown version '.*' of 'digits'; served here: '1.2.3', or leave it empty"
        yield Case(f"version {version!r}", http(json.dumps(good()).encode(), path), 404, expected)


def _parameters() -> Iterator[Case]:
    accepted = "accepted: priority, timeout, binary_data_output"
    for name, value, expected in (
        ("priority", -1, "priority is '-1'; expected an integer from 0"),
        ("priority", "high", "priority is the string 'high'; expected an integer"),
        ("priority", True, "priority is 'True'; expected an integer"),
        ("timeout", 1.5, "timeout is '1.5'; expected an integer"),
        ("timeout", 2**63, "timeout is '9223372036854775808'; expected an integer"),
        ("binary_data_output", 1, "binary_data_output is '1'; expected true or false"),
        ("sequence_id", 7, f"'sequence_id': models here keep no state .*{accepted}"),
        ("temperature", 1, f"unknown parameter 'temperature'; {accepted}"),
        ("x", None, "the request: parameter 'x': expected a number, a string, true or false"),
        ("x", [1], "the request: parameter 'x': expected a number, a string, true or false"),
    ):
        request = good() | {"parameters": {name: value}}
        yield as_json(f"parameter {name} {value!r}", request, expected)
    for name, value, expected in (
        ("shared_memory_region", "a", "'image': .*shared memory is not served; send the content"),
        (
            "binary_data_size",
            "8",
            "'image': binary_data_size is the string '8'; expected an",
        ),
        ("binary_data_size", -1, "'image': binary_data_size is '-1'; expected an integer"),
        ("encoding", "jpg", "'image': unknown parameter 'encoding'; accepted: binary_data_size"),
    ):
        request = good(parameters={name: value})
        yield as_json(f"input's parameter {name} {value!r}", request, expected)
    for name, value, expected in (
        ("classification", 0, "'logits': classification is '0'; expected an integer from 1"),
        ("classification", 11, "'logits': classification is 11; expected 1 to 10"),
        ("classification", "3", "'logits': classification is the string '3'; expected"),
        (
            "binary_data",
            "true",
            "'logits': binary_data is the string 'true'; expected true",
        ),
        ("top", 1, "'logits': unknown parameter 'top'; accepted: binary_data, classification"),
    ):
        request = good() | {"outputs": [{"name": "logits", "parameters": {name: value}}]}
        yield as_json(f"output's parameter {name} {value!r}", request, expected)
    for where in ("the request", "input", "output"):
        for wrong in (3, "x", [1]):
            request = good(**({"parameters": wrong} if where == "input" else {}))
            if where == "the request":
                request["parameters"] = wrong
            if where == "output":
                request["outputs"] = [{"name": "logits", "parameters": wrong}]
            expected = f"{where}.*: parameters: expected an object"
            yield as_json(f"{where}: parameters {wrong!r}", request, expected)
