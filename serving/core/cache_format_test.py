"""What is stored is read back, and nothing else is."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

from serving.core.cache import Expected
from serving.core.cache_format import MAGIC, ForeignValueError, _digest, decode, encode
from serving.core.signature import DTYPES, TensorSpec

KEY = bytes(range(32))
EXPIRES = 1.75e9

SCORES = TensorSpec("scores", "FP32", (-1, 3))
LABELS = TensorSpec("labels", "INT64", (-1,))
EXPECTED = Expected((SCORES, LABELS), 2)


def example() -> dict[str, np.ndarray]:
    return {
        "scores": np.arange(6, dtype=np.float32).reshape(2, 3),
        "labels": np.array([5, -7], np.int64),
    }


def stored() -> bytes:
    value = encode(KEY, example(), EXPIRES)
    assert value is not None
    return value


@given(datatype=st.sampled_from(sorted(DTYPES)), data=st.data())
def test_every_datatype_and_shape_comes_back_exactly(datatype: str, data: st.DataObject) -> None:
    shape = data.draw(numpy_st.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    dtype = DTYPES[datatype]
    content = data.draw(st.binary(min_size=0, max_size=16))
    size_bytes = int(np.prod(shape)) * dtype.itemsize
    raw = (content * (size_bytes + 1))[:size_bytes].ljust(size_bytes, b"\1")
    if datatype == "BOOL":
        raw = bytes(byte % 2 for byte in raw)
    array = np.frombuffer(raw, dtype).reshape(shape)
    spec = TensorSpec("x", datatype, (-1, *shape[1:]))
    value = encode(KEY, {"x": array}, EXPIRES)
    assert value is not None
    found, expires = decode(KEY, value, Expected((spec,), shape[0]))
    assert (found["x"].dtype, found["x"].shape) == (dtype, shape)
    assert found["x"].tobytes() == raw
    assert expires == EXPIRES


def test_arrays_that_lie_otherwise_in_memory_come_back_too() -> None:
    value = encode(KEY, {"scores": np.asfortranarray(example()["scores"])}, EXPIRES)
    assert value is not None
    found, _ = decode(KEY, value, Expected((SCORES,), 2))
    np.testing.assert_array_equal(found["scores"], example()["scores"])


def test_what_is_read_is_read_only() -> None:
    found, _ = decode(KEY, stored(), EXPECTED)
    with pytest.raises(ValueError, match="read-only"):
        found["scores"][0, 0] = 1


def test_texts_are_not_stored() -> None:
    assert encode(KEY, {"x": np.array([b"a"], object)}, EXPIRES) is None


@given(position=st.integers(0, len(stored()) - 1), change=st.integers(1, 255))
def test_any_byte_that_changes_is_seen(position: int, change: int) -> None:
    value = bytearray(stored())
    value[position] ^= change
    with pytest.raises(ForeignValueError):
        decode(KEY, bytes(value), EXPECTED)


@given(st.integers(0, len(stored()) - 1))
def test_any_cut_is_seen(length: int) -> None:
    with pytest.raises(ForeignValueError):
        decode(KEY, stored()[:length], EXPECTED)


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused(value: bytes) -> None:
    with pytest.raises(ForeignValueError):
        decode(KEY, value, EXPECTED)


def test_a_value_of_another_key_is_refused() -> None:
    with pytest.raises(ForeignValueError, match="stored for another request"):
        decode(bytes(32), stored(), EXPECTED)


@pytest.mark.parametrize(
    ("outputs", "batch_size"),
    [
        ((SCORES, LABELS), 3),
        ((SCORES,), 2),
        ((LABELS, SCORES), 2),
        ((SCORES, LABELS, LABELS), 2),
        ((SCORES._replace(name="score"), LABELS), 2),
        ((SCORES._replace(datatype="INT32"), LABELS), 2),
        ((SCORES._replace(shape=(-1, 4)), LABELS), 2),
        ((SCORES._replace(shape=(-1,)), LABELS), 2),
    ],
)
def test_what_does_not_fit_the_signature_is_refused(
    outputs: tuple[TensorSpec, ...], batch_size: int
) -> None:
    with pytest.raises(ForeignValueError, match="expected"):
        decode(KEY, stored(), Expected(outputs, batch_size))


@pytest.mark.parametrize(("length", "fits"), [(0, True), (3, True), (4, False)])
def test_an_output_that_follows_the_padding_may_be_shorter(length: int, fits: bool) -> None:
    spec = TensorSpec("x", "FP32", (-1, 3), follows="tokens")
    value = encode(KEY, {"x": np.ones((1, length), np.float32)}, EXPIRES)
    assert value is not None
    if fits:
        assert decode(KEY, value, Expected((spec,), 1))[0]["x"].shape == (1, length)
    else:
        with pytest.raises(ForeignValueError, match="expected x FP32"):
            decode(KEY, value, Expected((spec,), 1))


def forged(head: object, content: bytes = bytes(40), expires: float = EXPIRES) -> bytes:
    """A value with a right digest, as only somebody who knows the format would store."""
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    body = struct.pack("<dI", expires, len(text)) + text + content
    return MAGIC + _digest(KEY, body) + body


HEAD = [["scores", "FP32", [2, 3]], ["labels", "INT64", [2]]]


def test_a_forged_value_that_is_right_is_read() -> None:
    assert decode(KEY, forged(HEAD), EXPECTED)[1] == EXPIRES


@pytest.mark.parametrize(
    "value",
    [
        forged(HEAD, content=bytes(39)),
        forged(HEAD, content=bytes(41)),
        forged(HEAD, expires=float("nan")),
        forged(HEAD, expires=float("inf")),
        forged([]),
        forged({}),
        forged(None),
        forged([1, 2]),
        forged([["scores", "FP32"], HEAD[1]]),
        forged([["scores", "FP32", [2, 3], 1], HEAD[1]]),
        forged([["scores", "FP32", "23"], HEAD[1]]),
        forged([["scores", "FP32", [2.0, 3]], HEAD[1]]),
        forged([["scores", "FP32", [True, 3]], HEAD[1]]),
        forged([["scores", "FP32", [2, -3]], HEAD[1]]),
        forged([["scores", "FP32", [2, 2**70]], HEAD[1]]),
        forged([["scores", ["FP32"], [2, 3]], HEAD[1]]),
        forged(b"[" * 100_000),
        forged(b"\xff\xfe"),
        forged(b"1" * 100_000),
        forged(b""),
        MAGIC + _digest(KEY, b"") + b"",
    ],
)
def test_a_forged_value_that_is_wrong_is_refused(value: bytes) -> None:
    with pytest.raises(ForeignValueError):
        decode(KEY, value, EXPECTED)


@pytest.mark.parametrize("size", [0, 5])
def test_a_dimension_may_be_of_any_size(size: int) -> None:
    value = encode(KEY, {"x": np.ones((2, size), np.float32)}, EXPIRES)
    assert value is not None
    found, _ = decode(KEY, value, Expected((TensorSpec("x", "FP32", (-1, -1)),), 2))
    assert found["x"].shape == (2, size)


def test_a_dimension_of_any_size_cannot_ask_for_memory_that_is_not_there() -> None:
    spec = TensorSpec("x", "FP32", (-1, -1))
    value = forged([["x", "FP32", [2, 2**60]]], content=b"")
    with pytest.raises(ForeignValueError, match="is cut"):
        decode(KEY, value, Expected((spec,), 2))
