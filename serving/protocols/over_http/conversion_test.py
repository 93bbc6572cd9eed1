"""Requests of the Open Inference Protocol become tensors, and outputs become replies."""

import json
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from serving.core.errors import Kind, ServingError
from serving.core.model import ServedModel
from serving.core.request import Answer
from serving.core.signature import DTYPES, TensorSpec
from serving.protocols.over_http.conversion import decode, reply_of
from serving.protocols.over_http.inference_request import header_length_of, parse_inference
from serving.protocols.over_http.replies import HEADER_LENGTH, Reply
from serving.testing.served_models import DIGITS

MAX_JSON_BYTES = 200_000
BATCH = 3
# So many elements that JSON is parsed into an array.
MANY = 800


def model_of(datatype: str, *shape: int) -> ServedModel:
    """A model that takes `x` and gives `y`, of the same datatype and shape."""
    return replace(
        DIGITS,
        inputs=(TensorSpec("x", datatype, (-1, *shape)),),
        outputs=(TensorSpec("y", datatype, (-1, *shape)),),
    )


def values_of(datatype: str, *shape: int) -> np.ndarray:
    """Every bit pattern may come, as far as it is a finite value of the type."""
    rng, dtype = np.random.default_rng(5), DTYPES[datatype]
    if datatype == "BOOL":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        array = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        array.flat[0], array.flat[1] = limits.min, limits.max
        return array
    limits = ml_dtypes.finfo(dtype)
    array = rng.normal(0, 100, shape).astype(dtype)
    array.flat[0], array.flat[1] = limits.min, limits.max
    array.flat[2] = limits.smallest_normal
    return array


def in_json(array: np.ndarray, **facts: Any) -> dict[str, Any]:
    return {
        "name": "x",
        "datatype": next(name for name, dtype in DTYPES.items() if dtype == array.dtype),
        "shape": list(array.shape),
        **facts,
    }


def read(model: ServedModel, request: dict[str, Any], tail: bytes | None = None) -> Any:
    """The tensors of a request, and the forms of its outputs."""
    head = json.dumps(request).encode()
    length = None if tail is None else len(head)
    parsed = parse_inference(head + (tail or b""), length, MAX_JSON_BYTES)
    return decode(parsed, model)


def parts(reply: Reply) -> tuple[Any, bytes]:
    """The JSON of a reply, and what follows it."""
    length = int(reply.headers.get(HEADER_LENGTH, len(reply.body)))
    return json.loads(reply.body[:length]), reply.body[length:]


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name not in ("FP16", "BF16")])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("size", [4, MANY])
def test_json_of_every_datatype_is_exact(datatype: str, nested: bool, size: int) -> None:
    array = values_of(datatype, BATCH, 2, size)
    data = array.tolist() if nested else array.ravel().tolist()
    inputs, _ = read(model_of(datatype, 2, size), {"inputs": [in_json(array, data=data)]})
    assert inputs.arrays["x"].dtype == array.dtype
    assert inputs.arrays["x"].flags.owndata or inputs.arrays["x"].base.flags.owndata
    np.testing.assert_array_equal(inputs.arrays["x"], array)


@pytest.mark.parametrize(
    ("datatype", "last", "message"),
    [
        ("INT8", 128, "'x' has values outside INT8; expected -128 to 127"),
        ("UINT8", -1, "'x' has values outside UINT8; expected 0 to 255"),
        ("INT64", 2**63, "'x' has values outside INT64; expected -9223372036854775808 to"),
        ("FP32", 1e39, "'x' has values outside FP32; expected -3.4"),
        ("INT32", 0.5, "has numbers with a point or an exponent; expected whole numbers for INT32"),
        ("BOOL", 1, "'x' has the element 1; expected true and false for BOOL"),
        ("FP32", True, "'x' has the element true; expected numbers for FP32"),
        ("FP32", [1], "'x' has the element a list; expected numbers for FP32"),
    ],
)
def test_many_numbers_are_checked_as_few_are(datatype: str, last: Any, message: str) -> None:
    numbers = [*[1] * (MANY * 4 - 1), last]
    tensor = {"name": "x", "datatype": datatype, "shape": [1, MANY * 4], "data": numbers}
    with pytest.raises(ServingError, match=message):
        read(model_of(datatype, MANY * 4), {"inputs": [tensor]})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([1, MANY + 1], "has 800 elements; expected 801"),
        ([2, MANY // 2], ""),
        ([3, MANY // 2], "has 800 elements; expected 1200"),
    ],
)
def test_many_numbers_have_the_shape_of_the_request(shape: list[int], message: str) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": shape, "data": [0.125] * MANY}
    request = {"inputs": [tensor], "id": " " * 4096}
    if not message:
        inputs, _ = read(model_of("FP32", shape[1]), request)
        assert inputs.arrays["x"].shape == tuple(shape)
        return
    with pytest.raises(ServingError, match=message):
        read(model_of("FP32", shape[1]), request)


@pytest.mark.parametrize("datatype", DTYPES)
def test_binary_of_every_datatype_is_a_view_of_the_body(datatype: str) -> None:
    array = values_of(datatype, BATCH, 2, 4)
    sized = in_json(array, parameters={"binary_data_size": array.nbytes})
    request = {"parameters": {"binary_data_output": True}, "inputs": [sized]}
    inputs, _ = read(model_of(datatype, 2, 4), request, array.tobytes())
    read_one = inputs.arrays["x"]
    assert read_one.dtype == array.dtype
    assert not read_one.flags.owndata
    assert not read_one.flags.writeable
    np.testing.assert_array_equal(read_one, array)


@pytest.mark.parametrize("datatype", DTYPES)
@pytest.mark.parametrize("binary", [False, True])
def test_replies_hold_the_very_values(datatype: str, binary: bool) -> None:
    array = values_of(datatype, BATCH, 2, 4)
    request = {
        "inputs": [in_json(array, parameters={"binary_data_size": array.nbytes})],
        "outputs": [{"name": "y", "parameters": {"binary_data": binary}}],
    }
    model = model_of(datatype, 2, 4)
    if datatype in ("FP16", "BF16") and not binary:
        with pytest.raises(ServingError, match="'y' is .* no form in JSON; expected binary_data"):
            read(model, request, array.tobytes())
        return
    _, forms = read(model, request, array.tobytes())
    reply = reply_of(Answer("digits", "1.2.3", {"y": array}), "id-1", forms, ())
    head, tail = parts(reply)
    (output,) = head.pop("outputs")
    assert head == {"model_name": "digits", "model_version": "1.2.3", "id": "id-1"}
    assert (output["name"], output["datatype"]) == ("y", datatype)
    flat = np.frombuffer(tail, array.dtype) if binary else np.array(output["data"], array.dtype)
    np.testing.assert_array_equal(flat.reshape(output["shape"]), array)
    assert reply.content_type == f"application/{'octet-stream' if binary else 'json'}"


def test_binary_and_json_inputs_may_be_mixed_in_any_order() -> None:
    specs = [TensorSpec(name, "FP32", (-1, size)) for name, size in (("a", 1), ("b", 2), ("c", 3))]
    model = replace(DIGITS, inputs=tuple(specs))
    arrays = {spec.name: values_of("FP32", 4, spec.shape[1] + 1)[:, 1:] for spec in specs}
    tensors = [
        in_json(arrays["c"], name="c", parameters={"binary_data_size": arrays["c"].nbytes}),
        in_json(arrays["b"], name="b", data=arrays["b"].tolist()),
        in_json(arrays["a"], name="a", parameters={"binary_data_size": arrays["a"].nbytes}),
    ]
    tail = arrays["c"].tobytes() + arrays["a"].tobytes()
    inputs, _ = read(model, {"inputs": tensors}, tail)
    for name, array in arrays.items():
        np.testing.assert_array_equal(inputs.arrays[name], array)


def test_each_output_says_how_it_is_sent_and_in_which_order() -> None:
    specs = tuple(TensorSpec(name, "FP32", (-1, 4)) for name in "pqr")
    array = values_of("FP32", 2, 8, 8, 1)
    request = {
        "parameters": {"binary_data_output": True},
        "inputs": [in_json(array, name="image", data=array.ravel().tolist())],
        "outputs": [
            {"name": "r"},
            {"name": "p", "parameters": {"binary_data": False}},
            {"name": "q", "parameters": {"classification": 2}},
        ],
    }
    model = replace(DIGITS, outputs=specs, class_names=tuple("ABCD"))
    inputs, forms = read(model, request)
    assert inputs.outputs == ("r", "p", "q")
    outputs = {name: values_of("FP32", 2, 4) for name in "pqr"}
    outputs["q"] = np.array([[1.5, 10, -1, 4], [0, 0, 7, 0]], np.float32)
    head, tail = parts(reply_of(Answer("m", "1", outputs), None, forms, model.class_names))
    _, p, q = head["outputs"]
    assert "id" not in head
    assert tail[: outputs["r"].nbytes] == outputs["r"].tobytes()
    np.testing.assert_array_equal(np.array(p["data"], np.float32).reshape(2, 4), outputs["p"])
    assert (q["datatype"], q["shape"]) == ("BYTES", [2, 2])
    strings, rest = [], tail[outputs["r"].nbytes :]
    while rest:
        size = int.from_bytes(rest[:4], "little")
        strings.append(rest[4 : 4 + size].decode())
        rest = rest[4 + size :]
    assert strings == ["10.0:1:B", "4.0:3:D", "7.0:2:C", "0.0:0:A"]
    assert q["parameters"]["binary_data_size"] == len(tail) - outputs["r"].nbytes


def test_nan_has_no_form_in_json() -> None:
    ones = np.ones((1, 2), np.float32)
    _, forms = read(model_of("FP32", 2), {"inputs": [in_json(ones, data=[1, 1])]})
    with pytest.raises(ServingError, match="output 'y' has NaN or infinite values, which JSON has"):
        reply_of(Answer("m", "1", {"y": ones * np.nan}), None, forms, ())


class TestRaw:
    """A body without JSON, of a model of one input."""

    def test_it_is_one_example(self) -> None:
        array = values_of("FP32", 1, 2, 4)
        inputs, forms = decode(parse_inference(array.tobytes(), 0, 10), model_of("FP32", 2, 4))
        np.testing.assert_array_equal(inputs.arrays["x"], array)
        assert [form.binary for form in forms] == [True]

    def test_its_size_tells_the_open_dimension(self) -> None:
        array = values_of("INT16", 1, 2, 5)
        inputs, _ = decode(parse_inference(array.tobytes(), 0, 10), model_of("INT16", 2, -1))
        np.testing.assert_array_equal(inputs.arrays["x"], array)

    @pytest.mark.parametrize(
        ("model", "size", "message"),
        [
            (model_of("FP32", 2, 4), 31, "input 'x' has 31 bytes; expected 32"),
            (model_of("FP32", 2, 4), 0, "input 'x' has 0 bytes; expected 32"),
            (model_of("FP32", 2, -1), 12, "input 'x' has 12 bytes; expected 8"),
            (model_of("FP32", 2, -1), 0, r"input 'x' has shape \[1, 2, 0\]"),
            (model_of("FP32", -1, -1), 8, "no number of bytes tells the shape of x FP32"),
            (
                replace(DIGITS, inputs=(*DIGITS.inputs, *DIGITS.outputs)),
                8,
                "is 0, as of a model of one input; expected JSON for image FP32",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, model: ServedModel, size: int, message: str
    ) -> None:
        with pytest.raises(ServingError, match=message):
            decode(parse_inference(bytes(size), 0, 10), model)


def test_a_head_that_comes_again_is_read_for_each_model_and_each_body() -> None:
    """The same JSON with other bytes, for another model, and for the first one again."""
    arrays = [values_of("FP32", 1, 2, 4) + number for number in range(3)]
    sized = in_json(arrays[0], parameters={"binary_data_size": arrays[0].nbytes})
    fitting, other = model_of("FP32", 2, 4), model_of("FP32", 8)
    for model, array in ((fitting, arrays[0]), (other, arrays[1]), (fitting, arrays[2])):
        if model is other:
            with pytest.raises(ServingError, match=r"has shape \[1, 2, 4\]; expected \[-1, 8\]"):
                read(model, {"inputs": [sized]}, array.tobytes())
        else:
            inputs, _ = read(model, {"inputs": [sized]}, array.tobytes())
            np.testing.assert_array_equal(inputs.arrays["x"], array)
    with pytest.raises(ServingError, match="33 bytes follow the JSON; expected 32"):
        read(fitting, {"inputs": [sized]}, bytes(33))


@pytest.mark.parametrize("text", ["", "-1", "1.5", "0x10", "1e3", "+1", " 1", "٣", "9" * 20])
def test_a_header_length_is_a_number(text: str) -> None:
    with pytest.raises(ServingError, match="expected the number of bytes of the JSON"):
        header_length_of(text)


def test_json_that_is_too_large_is_not_parsed() -> None:
    with pytest.raises(ServingError, match="expected at most 10. Larger tensors") as raised:
        parse_inference(b"{" * 11, None, 10)
    assert raised.value.kind is Kind.TOO_LARGE
