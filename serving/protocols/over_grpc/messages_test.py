"""Bytes are read as protobuf reads them, whatever they are, and large contents are not copied."""

import random
from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inference import grpc_service_pb2 as oip

from serving.core.errors import Kind, ServingError
from serving.protocols.over_grpc import messages
from serving.protocols.over_grpc.messages import (
    MAX_FIELDS,
    MAX_SMALL_BYTES,
    MAX_TYPED_BYTES,
    read_infer_request,
    read_message,
)

Request = oip.ModelInferRequest

# What a caller could write into a request, and what nobody should.
texts = st.sampled_from(["", "digits", "ä€😀", "x" * 200])
parameters = st.dictionaries(
    st.sampled_from(["timeout", "priority", ""]),
    st.builds(oip.InferParameter, int64_param=st.integers(-(2**63), 2**63 - 1)),
    max_size=2,
)
tensors = st.builds(
    Request.InferInputTensor,
    name=texts,
    datatype=st.sampled_from(["FP32", "BYTES", ""]),
    shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    contents=st.none()
    | st.builds(oip.InferTensorContents, fp32_contents=st.lists(st.floats(width=32), max_size=3)),
)
requests = st.builds(
    Request,
    model_name=texts,
    id=texts,
    inputs=st.lists(tensors, max_size=3),
    raw_input_contents=st.lists(st.binary(max_size=300), max_size=4),
)

# Single fields in any form, well or badly made: a tag, and something after it.
varints = st.integers(0, 2**64 - 1).map(lambda value: varint(value)) | st.binary(max_size=11)
fields = st.tuples(st.integers(0, 2**7 - 1).map(lambda tag: bytes([tag])), varints).map(b"".join)
raw_fields = st.binary(max_size=40).map(lambda content: b"\x3a" + varint(len(content)) + content)
group = st.just(b"\x43\x08\x01\x44")
overlong = st.sampled_from(
    [
        b"\xba\x00\x01x",
        b"\x3a\x81\x00x",
        b"\x3a\x81\x80\x80\x80\x00x",
        b"\x3a\x81\x80\x80\x80\x80\x00x",
    ]
)
pieces = st.one_of(fields, raw_fields, group, overlong, st.binary(max_size=20))


def varint(value: int) -> bytes:
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def as_protobuf_reads(data: bytes) -> Request | None:
    try:
        return Request.FromString(data)
    except DecodeError:
        return None


def check_equals_protobuf(data: bytes) -> None:
    expected = as_protobuf_reads(data)
    if expected is None:
        with pytest.raises(ServingError) as error:
            read_infer_request(data)
        assert error.value.kind is Kind.INVALID
        return
    received = read_infer_request(data)
    assert [bytes(content) for content in received.raw] == list(expected.raw_input_contents)
    rest = Request.FromString(received.message.SerializeToString(deterministic=True))
    del rest.raw_input_contents[:], expected.raw_input_contents[:]
    assert rest.SerializeToString(deterministic=True) == expected.SerializeToString(
        deterministic=True
    )


@pytest.fixture
def takes_all_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_LARGE", -1)


@settings(max_examples=200)
@given(request_=requests)
def test_requests_are_read_as_protobuf_reads_them(request_: Request) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "_LARGE", -1)
        check_equals_protobuf(request_.SerializeToString())


@settings(max_examples=800)
@given(parts=st.lists(pieces, max_size=8))
@example(parts=[b"\x3a\x81\x00x"])
@example(parts=[b"\xba\x00\x01x"])
@example(parts=[b"\x3f"])
@example(parts=[b"\x38\x05", b"\x3d\0\0\0\0", b"\x39" + bytes(8)])  # field 7, and not of bytes
def test_hostile_bytes_are_read_as_protobuf_reads_them(parts: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "_LARGE", -1)
        check_equals_protobuf(b"".join(parts))


@pytest.mark.usefixtures("takes_all_apart")
def test_damaged_requests_are_read_as_protobuf_reads_them() -> None:
    draw = random.Random(18)
    whole = Request(model_name="digits", id="7", raw_input_contents=[b"abc", bytes(200), b""])
    whole.inputs.add(name="image", datatype="FP32", shape=[1, 8, 8, 1])
    whole.parameters["priority"].uint64_param = 1
    data = whole.SerializeToString()
    for _ in range(2000):
        damaged = bytearray(data)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(damaged))
            edit = draw.randrange(3)
            if edit == 0:
                damaged[place] = draw.randrange(256)
            elif edit == 1:
                del damaged[place : place + draw.randint(1, 9)]
            else:
                damaged[place:place] = draw.randbytes(draw.randint(1, 9))
            damaged = damaged or bytearray(1)
        check_equals_protobuf(bytes(damaged))


def large_request() -> Request:
    request = Request(model_name="digits", raw_input_contents=[bytes(200_000), bytes(100_000)])
    request.inputs.add(name="image")
    return request


def test_large_contents_are_views_of_the_message() -> None:
    data = large_request().SerializeToString()
    received = read_infer_request(data)
    assert [len(content) for content in received.raw] == [200_000, 100_000]
    assert all(isinstance(c, memoryview) and c.obj is data for c in received.raw)
    assert not received.message.raw_input_contents
    assert received.message.inputs[0].name == "image"
    assert len(data) < received.size_bytes < len(data) + 100


def test_contents_in_any_place_are_found() -> None:
    parts = [
        Request(raw_input_contents=[b"a" * 70_000]),
        Request(model_name="digits"),
        Request(raw_input_contents=[b"b"]),
        Request(id="7"),
    ]
    received = read_infer_request(b"".join(part.SerializeToString() for part in parts))
    assert [bytes(content[:1]) for content in received.raw] == [b"a", b"b"]
    assert (received.message.model_name, received.message.id) == ("digits", "7")


def test_a_group_is_left_to_protobuf() -> None:
    data = b"\x43\x08\x01\x44" + large_request().SerializeToString()
    received = read_infer_request(data)
    assert len(received.raw) == 2
    assert received.size_bytes == 3 * len(data)


def test_what_is_no_content_is_bounded() -> None:
    request = Request()
    tensor = request.inputs.add(name="image", datatype="FP64")
    tensor.contents.fp64_contents.extend([1.0] * (MAX_TYPED_BYTES // 8))
    with pytest.raises(ServingError, match="send large tensors as raw_input_contents") as error:
        read_infer_request(request.SerializeToString())
    assert error.value.kind is Kind.TOO_LARGE


@pytest.mark.parametrize(
    "field",
    [b"\x2a\x00", b"\x32\x00", b"\x3a\x00", b"\x22\x00"],
    ids=["inputs", "outputs", "raw", "parameters"],
)
def test_the_number_of_fields_is_bounded(field: bytes) -> None:
    name = Request(model_name="x" * 100_000).SerializeToString()
    read_infer_request(name + field * (MAX_FIELDS - 1))
    with pytest.raises(ServingError, match=f"expected at most {MAX_FIELDS}") as error:
        read_infer_request(name + field * MAX_FIELDS)
    assert error.value.kind is Kind.INVALID


@pytest.mark.parametrize("read", [lambda data: read_message(oip.ModelReadyRequest, data)])
def test_messages_without_tensors_are_small(read: Callable[[bytes], object]) -> None:
    read(oip.ModelReadyRequest(name="x" * (MAX_SMALL_BYTES - 4)).SerializeToString())
    with pytest.raises(ServingError, match="inference.ModelReadyRequest has .* bytes; expected"):
        read(oip.ModelReadyRequest(name="x" * MAX_SMALL_BYTES).SerializeToString())


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"\x0a\x02\xff\xfe", b"\x0a\x05abc"])
def test_garbage_is_refused_by_name(garbage: bytes) -> None:
    for read, name in [
        (lambda data: read_message(oip.ModelReadyRequest, data), "inference.ModelReadyRequest"),
        (read_infer_request, "inference.ModelInferRequest"),
    ]:
        with pytest.raises(ServingError) as error:
            read(garbage)
        assert error.value.message.startswith(f"the request is no {name}: ")
        assert error.value.kind is Kind.INVALID
