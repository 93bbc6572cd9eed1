"""Every malformed tensor is refused with the signature; every dtype survives the round trip."""

import struct
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from inference import grpc_service_pb2 as oip

from serving.elements import CONTENTS_FIELDS
from serving.errors import InvalidRequestError
from serving.signature import DTYPES, TensorSpec
from serving.tensors import MAX_QUOTED, decode_inputs, encode_outputs, select_outputs

IMAGE = TensorSpec("image", "FP32", (-1, 2, 3))
MASK = TensorSpec("mask", "UINT8", (-1,))
SIGNATURE = "Expected inputs: image FP32 [-1, 2, 3], mask UINT8 [-1]; batch of 1 to 4"
PIXELS = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]

Request = oip.ModelInferRequest


def raw_request() -> Request:
    """One image and its mask, both raw."""
    return Request(
        inputs=[
            Request.InferInputTensor(name="image", datatype="FP32", shape=[1, 2, 3]),
            Request.InferInputTensor(name="mask", datatype="UINT8", shape=[1]),
        ],
        raw_input_contents=[struct.pack("<6f", *PIXELS), b"\x01"],
    )


def typed_request() -> Request:
    """The same in typed contents."""
    request = raw_request()
    del request.raw_input_contents[:]
    request.inputs[0].contents.fp32_contents.extend(PIXELS)
    request.inputs[1].contents.uint_contents.append(1)
    return request


def decode(request: Request) -> dict[str, np.ndarray]:
    return decode_inputs(request, [IMAGE, MASK], max_batch_size=4)


@pytest.mark.parametrize("request_", [raw_request(), typed_request()], ids=["raw", "typed"])
def test_valid_request_is_decoded(request_: Request) -> None:
    arrays = decode(request_)
    np.testing.assert_array_equal(arrays["image"], np.array(PIXELS, np.float32).reshape(1, 2, 3))
    np.testing.assert_array_equal(arrays["mask"], np.array([1], np.uint8))


def test_order_of_inputs_is_free() -> None:
    request = raw_request()
    inputs, contents = list(request.inputs), list(request.raw_input_contents)
    del request.inputs[:], request.raw_input_contents[:]
    request.inputs.extend(reversed(inputs))
    request.raw_input_contents.extend(reversed(contents))
    assert decode(request)["mask"].tolist() == [1]


@pytest.mark.parametrize("typed", [False, True])
def test_integers_from_the_limit_on_are_refused(typed: bool) -> None:
    spec = TensorSpec("tokens", "INT32", (-1, 2), limit=256)

    def of(*tokens: int) -> Request:
        request = Request()
        tensor = request.inputs.add(name="tokens", datatype="INT32", shape=(1, 2))
        if typed:
            tensor.contents.int_contents.extend(tokens)
        else:
            request.raw_input_contents.append(struct.pack("<2i", *tokens))
        return request

    assert decode_inputs(of(-1, 255), [spec], 1)["tokens"].tolist() == [[-1, 255]]
    with pytest.raises(InvalidRequestError) as error:
        decode_inputs(of(256, 0), [spec], 1)
    assert str(error.value) == (
        "input 'tokens' has the value 256. Expected inputs: tokens INT32 [-1, 2] below 256; "
        "batch of 1 to 1"
    )


def test_raw_input_is_a_view() -> None:
    array = decode(raw_request())["image"]
    assert array.base is not None
    assert not array.flags.writeable


def set_shape(request: Request, *shape: int) -> None:
    request.inputs[0].shape[:] = shape


def set_raw(request: Request, content: bytes) -> None:
    request.raw_input_contents[0] = content


def set_both(request: Request) -> None:
    request.inputs[0].contents.fp32_contents.extend(PIXELS)


def set_two_images(request: Request) -> None:
    set_shape(request, 2, 2, 3)
    set_raw(request, bytes(48))


def add_unknown_parameter(request: Request) -> None:
    request.inputs[0].parameters["shared_memory_region"].string_param = "region"


MALFORMED_RAW = {
    "name": (lambda r: setattr(r.inputs[0], "name", "picture"), "unexpected input 'picture'"),
    "missing": (lambda r: r.inputs.pop(), "missing input 'mask'"),
    "no inputs": (lambda r: r.ClearField("inputs"), "missing input"),
    "duplicate": (lambda r: r.inputs.append(r.inputs[0]), "an input name occurs twice"),
    "unexpected": (lambda r: r.inputs.add(name="more"), "unexpected input 'more'"),
    "rank": (lambda r: set_shape(r, 1, 6), "input 'image' has 2 dimensions"),
    "scalar": (lambda r: set_shape(r), "input 'image' has 0 dimensions"),
    "shape": (lambda r: set_shape(r, 1, 3, 2), r"has shape \[1, 3, 2\]"),
    "empty batch": (lambda r: set_shape(r, 0, 2, 3), r"is an empty batch, shape \[0, 2, 3\]"),
    "negative batch": (lambda r: set_shape(r, -1, 2, 3), r"has shape \[-1, 2, 3\]"),
    "negative pair": (lambda r: set_shape(r, -1, -2, 3), r"has shape \[-1, -2, 3\]"),
    "large batch": (lambda r: set_shape(r, 5, 2, 3), "is a batch of 5"),
    "overflow": (lambda r: set_shape(r, 2**63 - 1, 2, 3), "is a batch of 9223372036854775807"),
    "batches differ": (
        set_two_images,
        "inputs differ in their batch dimension",
    ),
    "datatype": (lambda r: setattr(r.inputs[0], "datatype", "FP64"), "has datatype 'FP64'"),
    "unknown datatype": (lambda r: setattr(r.inputs[0], "datatype", "f32"), "datatype 'f32'"),
    "bytes": (lambda r: setattr(r.inputs[0], "datatype", "BYTES"), "has datatype 'BYTES'"),
    "long": (lambda r: set_raw(r, bytes(25)), "has 25 bytes; its shape makes 24"),
    "short": (lambda r: set_raw(r, bytes(23)), "has 23 bytes; its shape makes 24"),
    "no content": (lambda r: set_raw(r, b""), "has 0 bytes; its shape makes 24"),
    "too few raw": (lambda r: r.raw_input_contents.pop(), "holds 1 entries for 2 inputs"),
    "too many raw": (lambda r: r.raw_input_contents.append(b""), "holds 3 entries for 2"),
    "raw and contents": (set_both, "has contents beside raw_input_contents"),
    "nan": (lambda r: set_raw(r, struct.pack("<6f", *PIXELS[1:], np.nan)), "has NaN or infinite"),
    "inf": (lambda r: set_raw(r, struct.pack("<6f", -np.inf, *PIXELS[1:])), "has NaN or infinite"),
    "parameter": (add_unknown_parameter, "unsupported parameter 'shared_memory_region'"),
}

MALFORMED_TYPED = {
    "no contents": (
        lambda r: r.inputs[0].ClearField("contents"),
        "has 0 elements; its shape makes",
    ),
    "few": (
        lambda r: r.inputs[0].contents.fp32_contents.pop(),
        "has 5 elements; its shape makes 6",
    ),
    "many": (lambda r: r.inputs[0].contents.fp32_contents.append(1), "has 7 elements"),
    "wrong field": (
        lambda r: r.inputs[0].contents.fp64_contents.append(1),
        "has fp64_contents; FP32 belongs in fp32_contents",
    ),
    "nan": (lambda r: r.inputs[0].contents.fp32_contents.__setitem__(0, np.nan), "has NaN or inf"),
    "above range": (
        lambda r: r.inputs[1].contents.uint_contents.__setitem__(0, 256),
        "input 'mask' has values outside UINT8",
    ),
}


@pytest.mark.parametrize(
    ("request_", "edit", "message"),
    [pytest.param(raw_request(), *case, id=f"raw {n}") for n, case in MALFORMED_RAW.items()]
    + [
        pytest.param(typed_request(), *case, id=f"typed {n}") for n, case in MALFORMED_TYPED.items()
    ],
)
def test_malformed_input_is_refused(
    request_: Request, edit: Callable[[Request], object], message: str
) -> None:
    edit(request_)
    with pytest.raises(InvalidRequestError, match=message) as error:
        decode(request_)
    assert str(error.value).endswith(SIGNATURE)


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_exists_in_raw_form_only(datatype: str) -> None:
    spec = TensorSpec("half", datatype, (-1,))
    request = Request()
    tensor = request.inputs.add(name="half", datatype=datatype, shape=[1])
    tensor.contents.fp32_contents.append(1.0)
    with pytest.raises(InvalidRequestError, match=f"{datatype} exists in raw form only"):
        decode_inputs(request, [spec], 1)
    with pytest.raises(InvalidRequestError, match=f"is {datatype}, which exists in raw form only"):
        select_outputs(request, [spec])


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0, 0x7F81])
@pytest.mark.filterwarnings("error")
def test_bfloat16_nan_and_infinity_are_refused(bits: int) -> None:
    request = Request(raw_input_contents=[struct.pack("<H", bits)])
    request.inputs.add(name="half", datatype="BF16", shape=[1])
    with pytest.raises(InvalidRequestError, match="has NaN or infinite values"):
        decode_inputs(request, [TensorSpec("half", "BF16", (-1,))], 1)


@pytest.mark.parametrize(("byte", "valid"), [(0, True), (1, True), (2, False), (255, False)])
def test_raw_bool_is_zero_or_one(byte: int, valid: bool) -> None:
    request = Request(raw_input_contents=[bytes([byte])])
    request.inputs.add(name="flag", datatype="BOOL", shape=[1])
    specs = [TensorSpec("flag", "BOOL", (-1,))]
    if valid:
        assert decode_inputs(request, specs, 1)["flag"].tolist() == [bool(byte)]
    else:
        with pytest.raises(InvalidRequestError, match="neither 0 nor 1"):
            decode_inputs(request, specs, 1)


@pytest.mark.parametrize("datatype", ["INT8", "INT16"])
@pytest.mark.parametrize("side", ["min", "max"])
def test_narrow_integers_are_checked_against_their_range(datatype: str, side: str) -> None:
    limit = getattr(np.iinfo(DTYPES[datatype]), side)
    request = Request()
    tensor = request.inputs.add(name="x", datatype=datatype, shape=[1])
    tensor.contents.int_contents.append(limit)
    specs = [TensorSpec("x", datatype, (-1,))]
    assert decode_inputs(request, specs, 1)["x"].tolist() == [limit]
    tensor.contents.int_contents[0] += 1 if side == "max" else -1
    with pytest.raises(InvalidRequestError, match=f"values outside {datatype}"):
        decode_inputs(request, specs, 1)


def test_long_names_do_not_fill_the_error() -> None:
    request = raw_request()
    request.inputs[0].name = "x" * 1_000_000
    with pytest.raises(InvalidRequestError) as error:
        decode(request)
    assert len(str(error.value)) < 2 * MAX_QUOTED + len(SIGNATURE) + 100


LOGITS = TensorSpec("logits", "FP32", (-1, 2))
LABEL = TensorSpec("label", "INT64", (-1,))


def requesting(*names: str) -> Request:
    outputs = [Request.InferRequestedOutputTensor(name=name) for name in names]
    return Request(outputs=outputs, raw_input_contents=[b""])


@pytest.mark.parametrize(
    ("names", "selected"),
    [((), [LOGITS, LABEL]), (("label",), [LABEL]), (("label", "logits"), [LABEL, LOGITS])],
)
def test_requested_outputs_are_honoured(names: tuple[str, ...], selected: list[TensorSpec]) -> None:
    assert select_outputs(requesting(*names), [LOGITS, LABEL]) == selected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("boxes",), r"unknown output 'boxes'\. Expected outputs: logits FP32 \[-1, 2\], label"),
        (("label", "label"), "an output is requested twice"),
    ],
)
def test_other_outputs_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        select_outputs(requesting(*names), [LOGITS, LABEL])


def test_output_parameter_is_refused() -> None:
    request = requesting("label")
    request.outputs[0].parameters["classification"].int64_param = 3
    with pytest.raises(InvalidRequestError, match="unsupported parameter 'classification'"):
        select_outputs(request, [LABEL])


@pytest.mark.parametrize("array", [np.zeros((1, 3), np.float32), np.zeros((1, 2), np.float64)])
def test_output_that_contradicts_its_signature_is_a_fault(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="the model returned"):
        encode_outputs(oip.ModelInferResponse(), [(LOGITS, array)], raw=True)


def arrays_of(datatype: str) -> st.SearchStrategy[np.ndarray]:
    shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)
    if datatype == "BF16":  # hypothesis knows numpy's own types only
        bits = hnp.arrays(np.uint16, shapes)
        finite_bits = bits.filter(lambda array: not (array & 0x7F80 == 0x7F80).any())
        return finite_bits.map(lambda array: array.view(ml_dtypes.bfloat16))
    finite = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else None
    return hnp.arrays(DTYPES[datatype], shapes, elements=finite)


@pytest.mark.parametrize("datatype", DTYPES)
@given(data=st.data())
def test_every_dtype_round_trips(datatype: str, data: st.DataObject) -> None:
    array = data.draw(arrays_of(datatype))
    raw = datatype not in CONTENTS_FIELDS or data.draw(st.booleans())
    spec = TensorSpec("x", datatype, (-1, *array.shape[1:]))

    response = oip.ModelInferResponse()
    encode_outputs(response, [(spec, array)], raw=raw)
    assert bool(response.raw_output_contents) == raw
    # A reply has the wire format of a request, so it is read back as one.
    (output,) = response.outputs
    request = Request(raw_input_contents=response.raw_output_contents)
    request.inputs.add().ParseFromString(output.SerializeToString())
    decoded = decode_inputs(request, [spec], max_batch_size=4)["x"]

    assert decoded.dtype == array.dtype
    assert decoded.tobytes() == array.tobytes()
    assert decoded.shape == array.shape


@pytest.mark.parametrize("datatype", DTYPES)
def test_raw_form_is_little_endian(datatype: str) -> None:
    response = oip.ModelInferResponse()
    spec = TensorSpec("x", datatype, (-1,))
    encode_outputs(response, [(spec, np.ones(1, DTYPES[datatype]))], raw=True)
    one = {"FP16": "003c", "BF16": "803f", "FP32": "0000803f", "FP64": "000000000000f03f"}
    expected = bytes.fromhex(one.get(datatype, "01")).ljust(DTYPES[datatype].itemsize, b"\0")
    assert response.raw_output_contents[0] == expected
