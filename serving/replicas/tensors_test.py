"""Tensors to bytes and back, for every datatype; descriptions that cannot be true are refused."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from hpc.serving.v1 import transport_pb2 as wire

from serving.core.signature import DTYPES
from serving.replicas.errors import FrameError
from serving.replicas.tensors import describe, views

RNG = np.random.default_rng(3)


def random_bytes(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Any bit pattern, NaNs of all kinds among them; of booleans 0 and 1."""
    array = RNG.integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    return (array % 2 if dtype == np.bool_ else array).view(dtype)[..., 0]


@pytest.mark.parametrize("datatype", DTYPES)
@pytest.mark.parametrize("rest", [(), (3,), (2, 0, 3), (4, 5)])
def test_every_datatype_comes_back_bit_for_bit(datatype: str, rest: tuple[int, ...]) -> None:
    parts = [random_bytes((n, *rest), DTYPES[datatype]) for n in (1, 3, 2)]
    described = wire.Run()
    buffers, size = describe({"x": parts}, 6, described.inputs)
    payload = b"".join(buffers)
    # Little-endian, row-major, without gaps, as the Open Inference Protocol has it.
    assert payload == b"".join(part.tobytes() for part in parts)
    assert size == len(payload)
    back = views(described.inputs, payload, size)["x"]
    assert (back.shape, back.dtype) == ((6, *rest), DTYPES[datatype])
    assert back.tobytes() == payload
    assert not back.flags.writeable


def test_tensors_begin_at_multiples_of_64() -> None:
    tensors = {
        "a": [np.full(3, 1, np.uint8)],
        "b": [np.zeros((0, 2), np.float64)],
        "c": [np.full(64, 2, np.uint8)],
        "d": [np.full(1, 3, ml_dtypes.bfloat16)],
    }
    described = wire.Reply()
    buffers, size = describe(tensors, 9, described.outputs)
    for tensor, parts in zip(described.outputs, tensors.values(), strict=True):
        tensor.shape[0] = len(parts[0])  # here the sizes differ, so that gaps do
    payload = b"".join(buffers)
    assert payload[:3] + payload[64:128] == bytes([1] * 3 + [2] * 64)
    assert len(payload) == size == 64 + 64 + 2
    back = views(described.outputs, payload, size)
    assert {name: array.tolist() for name, array in back.items()} == {
        "a": [1] * 3,
        "b": [],
        "c": [2] * 64,
        "d": [3],
    }


def test_nothing_is_copied() -> None:
    part = np.arange(10.0)
    described = wire.Run()
    (buffer,), _ = describe({"x": [part]}, 10, described.inputs)
    memory = np.frombuffer(buffer, np.float64)
    assert np.shares_memory(memory, part)
    back = views(described.inputs, memory.view(np.uint8), 80)["x"]
    assert np.shares_memory(back, part)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (np.zeros((4, 4))[:, ::2], "x is not C-contiguous"),
        (np.zeros(3, ">f4"), "x has dtype >f4"),
        (np.array([b"a", None], object), "x has dtype object"),
        (np.zeros(2, complex), "x has dtype complex128"),
    ],
)
def test_what_has_no_bytes_of_its_own_is_not_sent(part: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        describe({"x": [part]}, len(part), wire.Run().inputs)


@pytest.mark.parametrize(
    ("tensors", "size", "message"),
    [
        ([("x", "FP32", [2, 3])], 23, "ends within 'x'"),
        ([("x", "FP32", [2, 3])], 25, "a payload of 25 bytes for tensors that take 24"),
        ([], 1, "a payload of 1 bytes for tensors that take 0"),
        ([("x", "FP32", [2**62, 2**62])], 0, "ends within 'x'"),
        ([("x", "FP32", [2**63, 2])], 0, "ends within 'x'"),
        ([("x", "BYTES", [1])], 4, "datatype 'BYTES', which is none"),
        ([("x", "object", [1])], 8, "datatype 'object', which is none"),
        ([("x", "", [1])], 4, "datatype '', which is none"),
        ([("x", "FP32", [])], 4, "'x' has 0 dimensions"),
        ([("x", "UINT8", [1] * 33)], 1, "'x' has 33 dimensions"),
        ([("x", "UINT8", [64]), ("x", "UINT8", [1])], 65, "two tensors with the name 'x'"),
    ],
)
def test_descriptions_that_cannot_be_true_are_refused(
    tensors: list[tuple[str, str, list[int]]], size: int, message: str
) -> None:
    described = [wire.Tensor(name=n, datatype=t, shape=s) for n, t, s in tensors]
    with pytest.raises(FrameError, match=message):
        views(described, bytes(size), size)


def test_sizes_that_no_memory_has_are_refused_though_nothing_is_to_be_read() -> None:
    # Dimensions whose product is nought, though one of them is beyond what an index can be.
    for shape in itertools.permutations([0, 2**63, 5]):
        with pytest.raises(FrameError):
            views([wire.Tensor(name="x", datatype="FP32", shape=shape)], b"", 0)
