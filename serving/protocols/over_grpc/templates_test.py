"""A request that is like an earlier one means what it would mean had there been no earlier one."""

import random
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from inference import grpc_service_pb2 as oip

from serving.core.errors import ServingError
from serving.core.model import ServedModel
from serving.core.request import Answer, Protocol
from serving.core.signature import DTYPES, zeros
from serving.protocols.over_grpc import infer_request
from serving.protocols.over_grpc import templates as templates_module
from serving.protocols.over_grpc.infer_request import InferRequest
from serving.protocols.over_grpc.templates import RepeatedRequest, Templates
from serving.testing.served_models import ALL, DIGITS, ECHOES, PAIR, TOKENS

BOOLS = next(model for model in ECHOES if model.inputs[0].datatype == "BOOL")
HALVES = next(model for model in ECHOES if model.inputs[0].datatype == "BF16")


def request_for(model: ServedModel, batch: int = 2, seed: int = 0) -> oip.ModelInferRequest:
    """A raw request with small whole numbers, which every datatype holds."""
    rng = np.random.default_rng(seed)
    request = oip.ModelInferRequest(model_name=model.name)
    for spec in model.inputs:
        array = rng.integers(0, 2, zeros(spec, batch).shape).astype(DTYPES[spec.datatype])
        request.inputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


class Meaning(NamedTuple):
    """All that a request says."""

    call: tuple[Any, ...]
    inputs: dict[str, tuple[np.dtype, tuple[int, ...], bytes]]
    reply: bytes


def meaning(templates: Templates, data: bytes, model: ServedModel) -> Meaning | str:
    """What the server makes of a request, and of its answer; or the message of its refusal."""
    try:
        request = templates.read(data)
        call = request.call(Protocol.GRPC, "id", "client", 60.0)
        inputs = request.inputs(model)
        outputs = {spec.name: zeros(spec, inputs.batch_size) for spec in model.outputs}
        for spec in model.outputs:
            if spec.follows:
                outputs[spec.name] = outputs[spec.name][:, : inputs.arrays["tokens"].shape[1]]
        answer = Answer(model.name, model.version, outputs)
        reply = templates.form_of(data, request).reply(request.id, answer)
    except ServingError as error:
        return error.message
    known = (call.protocol, call.model, call.version, call.priority, call.deadline)
    arrays = {n: (a.dtype, a.shape, a.tobytes()) for n, a in inputs.arrays.items()}
    assert list(inputs.arrays) == [spec.name for spec in model.inputs]
    return Meaning((*known, inputs.outputs), arrays, reply)


def damaged(draw: random.Random, data: bytes) -> bytes:
    """The same with some bytes changed, in place or in number."""
    result = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(result))
        edit = draw.randrange(4)
        if edit < 2:
            result[place] = draw.randrange(256)
        elif edit == 2:
            result[place : place + 1] = result[place : place + 1] * draw.randrange(3)
        else:
            result[place:place] = draw.randbytes(draw.randint(1, 4))
    return bytes(result) or b"\0"


@pytest.fixture(autouse=True)
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines are comparable."""
    monkeypatch.setattr(infer_request, "time", SimpleNamespace(monotonic=lambda: 1000.0))


@pytest.mark.parametrize("model", [DIGITS, PAIR, TOKENS, BOOLS, HALVES], ids=lambda m: m.name)
def test_means_what_it_means_to_a_server_that_forgets(model: ServedModel) -> None:
    draw = random.Random(18)
    remembering = Templates()
    repeated = 0
    for seed in range(400):
        request = request_for(model, batch=draw.choice([1, 2, 2]), seed=seed)
        if seed % 5 == 0:
            request.parameters["timeout"].int64_param = draw.choice([10**6, 2 * 10**6])
        data = request.SerializeToString()
        for variant in (data, damaged(draw, data), data):
            forgetting = meaning(Templates(), variant, model)
            repeated += isinstance(read_or_none(remembering, variant), RepeatedRequest)
            assert meaning(remembering, variant, model) == forgetting
    if model is not BOOLS:
        assert repeated > 400


def read_or_none(templates: Templates, data: bytes) -> object:
    try:
        return templates.read(data)
    except ServingError:
        return None


@pytest.mark.parametrize(("model", "_"), ALL, ids=lambda value: getattr(value, "name", ""))
def test_the_second_request_is_known(model: ServedModel, _: object) -> None:
    templates = Templates()
    first, second = (request_for(model, seed=seed).SerializeToString() for seed in (1, 2))
    assert isinstance(templates.read(first), InferRequest)
    meaning(templates, first, model)
    knows = model is not BOOLS  # of which not every value is one
    assert isinstance(templates.read(second), RepeatedRequest) == knows


def test_its_tensors_are_views_of_the_message() -> None:
    templates = Templates()
    data = request_for(DIGITS).SerializeToString()
    meaning(templates, data, DIGITS)
    array = templates.read(data).inputs(DIGITS).arrays["image"]
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))
    assert not array.flags.writeable


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_its_values_are_checked(value: float) -> None:
    templates = Templates()
    request = request_for(DIGITS, batch=1)
    meaning(templates, request.SerializeToString(), DIGITS)
    request.raw_input_contents[0] = np.full(64, value, np.float32).tobytes()
    known = templates.read(request.SerializeToString())
    assert isinstance(known, RepeatedRequest)
    with pytest.raises(ServingError, match="input 'image' has NaN or infinite values"):
        known.inputs(DIGITS)


def test_another_version_of_the_model_reads_it_anew() -> None:
    templates = Templates()
    data = request_for(DIGITS).SerializeToString()
    meaning(templates, data, DIGITS)
    other = ServedModel(
        name="digits",
        version="2.0.0",
        platform=DIGITS.platform,
        directory=DIGITS.directory,
        digest="1" * 64,
        inputs=DIGITS.inputs,
        outputs=DIGITS.outputs,
        max_batch_size=1,
    )
    assert meaning(templates, data, other) == "input 'image' has a batch of 2; expected 1 to 1"
    one = request_for(DIGITS, batch=1).SerializeToString()
    meaning(templates, one, DIGITS)
    replies = [meaning(templates, one, model) for model in (other, other, DIGITS)]
    versions = [
        oip.ModelInferResponse.FromString(reply.reply).model_version
        for reply in replies
        if isinstance(reply, Meaning)
    ]
    assert versions == ["2.0.0", "2.0.0", "1.2.3"]


@pytest.mark.parametrize("field", ["id", "padding"])
def test_what_is_another_one_each_time_is_not_remembered(field: str) -> None:
    templates = Templates()
    request = request_for(DIGITS)
    data = request.SerializeToString()
    if field == "id":
        request.id = "7"
        data = request.SerializeToString()
    else:
        data += oip.ModelInferRequest(model_version="1.2.3").SerializeToString()
    meaning(templates, data, DIGITS)
    assert isinstance(templates.read(data), InferRequest)


def test_clients_cannot_make_it_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates_module, "_MAX_SIZES", 10)
    templates = Templates()
    for number in range(100):
        request = request_for(DIGITS, batch=1)
        request.outputs.add(name="logits").parameters["classification"].int64_param = 1
        request.parameters["timeout"].int64_param = 1 << (number % 50)
        request.model_version = "x" * number
        meaning(templates, request.SerializeToString(), DIGITS)
    remembered = list(templates._by_size.values())
    assert len(remembered) <= 10
    assert all(len(of_size) <= 4 for of_size in remembered)
