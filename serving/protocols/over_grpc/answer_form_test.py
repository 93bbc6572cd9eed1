"""Answers are what protobuf reads out of their bytes."""

import numpy as np
import pytest
from inference import grpc_service_pb2 as oip

from serving.core.errors import Kind, ServingError
from serving.core.model import ServedModel
from serving.core.request import Answer
from serving.core.signature import DTYPES, TensorSpec
from serving.protocols.elements import CONTENTS_FIELDS
from serving.protocols.over_grpc.answer_form import AnswerForm, WantedOutput, stream_error
from serving.testing.served_models import DIGITS, ECHOES, PAIR, TOKENS

# What little-endian ones look like.
ONES = {"FP16": "003c", "BF16": "803f", "FP32": "0000803f", "FP64": "000000000000f03f"}


def form(model: ServedModel, *, raw: bool = True, classes: int = 0) -> AnswerForm:
    return AnswerForm(model, [WantedOutput(spec, classes) for spec in model.outputs], raw)


def answer(model: ServedModel, **outputs: np.ndarray) -> Answer:
    return Answer(model.name, model.version, outputs)


def read(data: bytes) -> oip.ModelInferResponse:
    return oip.ModelInferResponse.FromString(data)


@pytest.mark.parametrize("model", ECHOES, ids=lambda model: model.name)
def test_raw_contents_are_little_endian(model: ServedModel) -> None:
    datatype = model.outputs[0].datatype
    response = read(form(model).reply("", answer(model, y=np.ones((1, 3), DTYPES[datatype]))))
    assert (response.model_name, response.model_version, response.id) == (model.name, "1.2.3", "")
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", datatype, [1, 3])
    one = bytes.fromhex(ONES.get(datatype, "01")).ljust(DTYPES[datatype].itemsize, b"\0")
    assert list(response.raw_output_contents) == [one * 3]


TYPED = [model for model in ECHOES if model.outputs[0].datatype in CONTENTS_FIELDS]


@pytest.mark.parametrize("model", TYPED, ids=lambda model: model.name)
def test_typed_contents_are_in_the_field_of_their_datatype(model: ServedModel) -> None:
    datatype = model.outputs[0].datatype
    values = np.array([[0, 1, 1]], DTYPES[datatype])
    response = read(form(model, raw=False).reply("", answer(model, y=values)))
    assert not response.raw_output_contents
    ((field, contents),) = response.outputs[0].contents.ListFields()
    assert field.name == CONTENTS_FIELDS[datatype]
    assert list(contents) == [0, 1, 1]


@pytest.mark.parametrize("raw", [True, False])
def test_several_outputs_keep_their_order(raw: bool) -> None:
    sums, doubles = np.array([[1, 2], [3, 4]], np.float32), np.array([5, 6])
    data = form(PAIR, raw=raw).reply("", answer(PAIR, double=doubles, sum=sums))
    response = read(data)
    assert [output.name for output in response.outputs] == ["sum", "double"]
    if raw:
        assert list(response.raw_output_contents) == [sums.tobytes(), doubles.tobytes()]
    else:
        assert list(response.outputs[0].contents.fp32_contents) == [1, 2, 3, 4]
        assert list(response.outputs[1].contents.int64_contents) == [5, 6]


@pytest.mark.parametrize("message_id", ["", "7", "ä€😀", "x" * 256])
@pytest.mark.parametrize("raw", [True, False])
def test_the_id_is_repeated(message_id: str, raw: bool) -> None:
    logits = np.zeros((1, 10), np.float32)
    assert read(form(DIGITS, raw=raw).reply(message_id, answer(DIGITS, logits=logits))).id == (
        message_id
    )


def test_answers_of_other_shapes_are_described_anew() -> None:
    wanted = form(DIGITS)
    for batch in (1, 3, 3, 1, 200):
        logits = np.full((batch, 10), batch, np.float32)
        response = read(wanted.reply("", answer(DIGITS, logits=logits)))
        assert list(response.outputs[0].shape) == [batch, 10]
        assert list(response.raw_output_contents) == [logits.tobytes()]


def test_parts_of_larger_arrays_are_sent_in_order() -> None:
    tokens = np.arange(16, dtype=np.int32).reshape(4, 4)
    response = read(form(TOKENS).reply("", answer(TOKENS, next=tokens[1:3, :2])))
    assert list(response.outputs[0].shape) == [2, 2]
    assert np.frombuffer(response.raw_output_contents[0], "<i4").tolist() == [4, 5, 8, 9]


@pytest.mark.parametrize("raw", [True, False])
def test_classes_are_strings(raw: bool) -> None:
    wanted = form(DIGITS, raw=raw, classes=2)
    for first in (1, 1000):  # of other lengths, though of the same shape
        logits = np.arange(10, dtype=np.float32)[np.newaxis] + first
        response = read(wanted.reply("", answer(DIGITS, logits=logits)))
        (output,) = response.outputs
        assert (output.datatype, list(output.shape)) == ("BYTES", [1, 2])
        strings = [f"{first + 9}.0:9:nine".encode(), f"{first + 8}.0:8:eight".encode()]
        if raw:
            prefixed = b"".join(len(s).to_bytes(4, "little") + s for s in strings)
            assert list(response.raw_output_contents) == [prefixed]
        else:
            assert list(output.contents.bytes_contents) == strings


@pytest.mark.parametrize("size", [1, 5_000, 3_000_000])
def test_a_stream_wraps_the_same_answer(size: int) -> None:
    model = ServedModel(
        name="large",
        version="1",
        platform="",
        directory=DIGITS.directory,
        digest="",
        inputs=DIGITS.inputs,
        outputs=(TensorSpec("y", "UINT8", (-1, -1)),),
    )
    large = answer(model, y=np.ones((1, size), np.uint8))
    response = oip.ModelStreamInferResponse.FromString(form(model).stream_reply("7", large))
    assert not response.error_message
    assert response.infer_response == read(form(model).reply("7", large))


def test_an_error_in_a_stream_names_the_request() -> None:
    error = ServingError(Kind.INVALID, "input 'image' is wrong")
    response = oip.ModelStreamInferResponse.FromString(stream_error("7", error))
    assert response.error_message == "input 'image' is wrong"
    assert response.infer_response == oip.ModelInferResponse(id="7")


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    "logits",
    [np.zeros((1, 10)), np.zeros((1, 9), np.float32), np.zeros(10, np.float32)],
    ids=["datatype", "shape", "rank"],
)
def test_a_model_that_contradicts_its_signature_is_a_fault(logits: np.ndarray, raw: bool) -> None:
    with pytest.raises(ValueError, match=r"its signature says logits FP32 \[-1, 10\]"):
        form(DIGITS, raw=raw).reply("", answer(DIGITS, logits=logits))
