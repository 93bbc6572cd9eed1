"""What is written the safetensors library writes bit for bit, and what it refuses is refused."""

import json
import struct
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from registry.errors import ArtifactError
from registry.weights import DTYPES, MAX_HEADER_BYTES, FormatError, views_of, write_tensors

# NumPy's names of dtypes that the library tells by itself, and can give back to NumPy.
LIBRARY_READS = ["U64", "I64", "F64", "F32", "U32", "I32", "F16", "U16", "I16", "I8", "U8", "BOOL"]


def written(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The file that `write_tensors` makes."""
    parts: list[bytes] = []
    write_tensors(lambda content: parts.append(bytes(content)), tensors)
    return b"".join(parts)


def read(content: bytes) -> dict[str, np.ndarray]:
    """The tensors that `views_of` finds in a file."""
    return views_of(np.frombuffer(content, np.uint8))


def with_header(header: bytes, num_bytes: int = 0) -> bytes:
    """A file of this header and so many zeros."""
    return struct.pack("<Q", len(header)) + header + bytes(num_bytes)


def random_tensor(dtype: np.dtype, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A tensor of random bits; for booleans of zeros and ones."""
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    high = 2 if dtype == np.bool_ else 256
    content = np.random.default_rng(seed).integers(0, high, size, np.uint8)
    return content.view(dtype).reshape(shape)


def bits(tensor: np.ndarray) -> bytes:
    """What a comparison of numbers hides: NaN and the sign of zero."""
    return np.ascontiguousarray(tensor).tobytes()


tensor_maps = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(
        lambda name: name != "__metadata__"
    ),
    st.builds(
        random_tensor,
        st.sampled_from(list(DTYPES.values())),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        st.integers(0, 2**32),
    ),
    min_size=1,
    max_size=6,
)


@given(tensors=tensor_maps)
def test_file_is_that_of_the_library(tensors: dict[str, np.ndarray]) -> None:
    content = written(tensors)
    assert content == safetensors.numpy.save(tensors)
    for name, tensor in read(content).items():
        assert tensor.dtype == tensors[name].dtype
        assert tensor.shape == tensors[name].shape
        assert bits(tensor) == bits(tensors[name])
        assert not tensor.ctypes.data % tensor.dtype.alignment
    assert read(content).keys() == tensors.keys()


@given(tensors=tensor_maps)
def test_library_reads_what_is_written(tensors: dict[str, np.ndarray]) -> None:
    found = dict(safetensors.deserialize(written(tensors)))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert DTYPES[found[name]["dtype"]] == tensor.dtype
        assert found[name]["shape"] == list(tensor.shape)
        assert bytes(found[name]["data"]) == bits(tensor)


def test_tensors_are_views_of_the_one_buffer() -> None:
    tensors = {name: random_tensor(dtype, (3, 5), 0) for name, dtype in DTYPES.items()}
    buffer = np.frombuffer(bytearray(written(tensors)), np.uint8)
    found = views_of(buffer)
    assert all(np.shares_memory(tensor, buffer) for tensor in found.values())
    buffer[-1] = 1 - buffer[-1]
    assert found["BOOL"][-1, -1] != tensors["BOOL"][-1, -1]


@pytest.mark.parametrize("num_spaces", range(8))
def test_tensor_at_an_odd_address_is_copied_to_an_even_one(num_spaces: int) -> None:
    text = b'{"w":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}' + b" " * num_spaces
    content = with_header(text) + struct.pack("<d", 0.1)
    (tensor,) = read(content).values()
    assert not tensor.ctypes.data % 8
    assert tensor[0] == 0.1


@pytest.mark.parametrize("name", LIBRARY_READS)
@pytest.mark.parametrize("step", [-1, 2])
def test_layout_and_byte_order_do_not_matter(name: str, step: int) -> None:
    plain = random_tensor(DTYPES[name], (4, 6), 1)
    strided = plain.T[::step].astype(plain.dtype.newbyteorder(">"))[:, ::-1]
    expected = np.ascontiguousarray(strided.astype(plain.dtype))
    assert written({"w": strided}) == safetensors.numpy.save({"w": expected})


def test_special_values_keep_their_bits() -> None:
    for dtype in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        kind = np.dtype(dtype)
        every = np.arange(256**kind.itemsize, dtype=f"u{kind.itemsize}").view(kind)
        assert bits(read(written({"w": every}))["w"]) == bits(every)


def test_large_tensor_is_written_in_pieces() -> None:
    sizes: list[int] = []
    tensor = np.zeros(5_000_000, np.float32)
    write_tensors(lambda content: sizes.append(len(content)), {"w": tensor})
    assert sum(sizes) == len(safetensors.numpy.save({"w": tensor}))
    assert max(sizes) <= 8 * 2**20


def entry(dtype: object = "U8", shape: object = (2,), offsets: object = (0, 2)) -> dict[str, Any]:
    """A tensor of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


TWO = 2**63
HOSTILE: dict[str, tuple[Any, str]] = {
    "list": ([], "not a JSON object"),
    "null": (None, "not a JSON object"),
    "tensor is null": ({"w": None}, "not the keys dtype, shape and data_offsets"),
    "no dtype": ({"w": {"shape": [2], "data_offsets": [0, 2]}}, "not the keys"),
    "another key": ({"w": entry() | {"x": 1}}, "not the keys"),
    "unknown dtype": ({"w": entry("F128")}, "of dtype 'F128'; expected one of"),
    "dtype is a list": ({"w": entry(["U8"])}, "of dtype"),
    "shape is a number": ({"w": entry(shape=2)}, "not a list of whole numbers"),
    "size is true": ({"w": entry(shape=[2, True])}, "not a list of whole numbers"),
    "size is a text": ({"w": entry(shape=["2"])}, "not a list of whole numbers"),
    "negative sizes": ({"w": entry(shape=[-1, -2])}, "holds '-1'; expected whole numbers"),
    "fraction": ({"w": entry(shape=[2.0])}, "holds '2.0'; expected whole numbers"),
    "infinite": ({"w": entry(shape=[float("inf")])}, "holds 'Infinity'; expected whole"),
    "size of 25 digits": ({"w": entry(shape=[10**24])}, "expected whole numbers"),
    "product of 2**64": ({"w": entry(shape=[2**32, 2**32], offsets=[0, 0])}, "larger than any"),
    "nothing of 2**64": ({"w": entry(shape=[0, TWO, 2], offsets=[0, 0])}, "larger than any"),
    "bytes of 2**64": ({"w": entry("F64", [2**61], [0, 0])}, "larger than any memory"),
    "many dimensions": ({"w": entry(shape=[1] * 65)}, "65 dimensions"),
    "one offset": ({"w": entry(offsets=[2])}, "1 offsets"),
    "offsets backwards": ({"w": entry(offsets=[2, 0])}, "lies from 2 to 0"),
    "shape too small": ({"w": entry(shape=[1])}, "U8 of shape .1. takes 1 bytes"),
    "shape too large": ({"w": entry("U16")}, "U16 of shape .2. takes 4 bytes"),
    "out of range": ({"w": entry(offsets=[1, 3])}, "leaves a gap before it: begins at 1"),
    "beyond the end": ({"w": entry(shape=[9], offsets=[0, 9])}, "to take 9 bytes, there are 2"),
    "bytes left": ({"w": entry(shape=[1], offsets=[0, 1])}, "to take 1 bytes, there are 2"),
    "no tensor": ({}, "to take 0 bytes, there are 2"),
    "the same twice": ({"a": entry(), "b": entry()}, "overlaps another one"),
    "overlap": (
        {"a": entry(shape=[2]), "b": entry(shape=[1], offsets=[1, 2])},
        "'b' overlaps another one: begins at 1",
    ),
    "gap": (
        {"a": entry(shape=[0], offsets=[0, 0]), "b": entry(shape=[1], offsets=[1, 2])},
        "'b' leaves a gap before it",
    ),
    "metadata of numbers": ({"__metadata__": {"a": 1}, "w": entry()}, "not an object of strings"),
    "metadata is a text": ({"__metadata__": "a", "w": entry()}, "not an object of strings"),
    "half a character": ({"\ud800": entry()}, "no UTF-8"),
    "half a metadata": ({"__metadata__": {"a": "\udfff"}, "w": entry()}, "no UTF-8"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_header_is_refused(case: str) -> None:
    header, message = HOSTILE[case]
    with pytest.raises(FormatError, match=message):
        read(with_header(json.dumps(header).encode(), 2))


RAW: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "0 bytes, too few"),
    "no length": (b"1234567", "7 bytes, too few"),
    "no header": (struct.pack("<Q", 2), "to take 2 bytes, of 8 in all"),
    "length of 2**64 - 1": (b"\xff" * 8 + b"{}", "at most 100,000,000"),
    "length above the limit": (struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}", "at most 100,000"),
    "empty header": (with_header(b""), "not a JSON object"),
    "not UTF-8": (with_header(b'{"\xff":1}'), "not UTF-8"),
    "not JSON": (with_header(b"{'w':1}"), "not JSON"),
    "cut": (with_header(b'{"w":'), "not JSON"),
    "more after it": (with_header(b"{}{}"), "not JSON"),
    "ends with NUL": (with_header(b"{}\0"), "not JSON"),
    "byte order mark": (with_header(b"\xef\xbb\xbf{}"), "not a JSON object"),
    "begins with a space": (with_header(b" {}"), "not a JSON object"),
    "deep": (with_header(b'{"a":' * 90_000), "not JSON"),
    "deep lists": (with_header(b'{"a":' + b"[" * 90_000), "not JSON"),
    "NaN": (with_header(b'{"w":NaN}'), "expected whole numbers"),
    "minus zero": (with_header(b'{"w":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}'), "'-0'"),
    "many digits": (with_header(b'{"w":' + b"9" * 9999 + b"}"), "expected whole numbers"),
    "name twice": (
        with_header(
            b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
            b'"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
            1,
        ),
        "has 'w' twice",
    ),
    "key twice": (
        with_header(b'{"w":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1),
        "has 'dtype' twice",
    ),
    "escaped name twice": (with_header(b'{"w":1,"\\u0077":2}'), "has 'w' twice"),
}


@pytest.mark.parametrize("case", RAW)
def test_broken_file_is_refused(case: str) -> None:
    content, message = RAW[case]
    with pytest.raises(FormatError, match=message):
        read(content)


def library_reads(content: bytes) -> bool:
    """Whether the library takes a file."""
    try:
        safetensors.deserialize(content)
    except safetensors.SafetensorError:
        return False
    return True


numbers = st.integers(-1, 5) | st.sampled_from([2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64])
anything = st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=2)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPES, "C64", "F4", "u8"]) | anything,
        "shape": st.lists(numbers, max_size=3) | anything,
        "data_offsets": st.lists(numbers, min_size=2, max_size=2) | anything,
    },
    optional={"extra": anything},
)
headers = st.dictionaries(
    st.sampled_from(["", "a", "b", "é", "__metadata__"]) | st.text(max_size=2),
    entries | st.dictionaries(st.text(max_size=1), anything, max_size=2) | anything,
    max_size=4,
)


@given(header=headers, num_bytes=st.integers(0, 8))
def test_any_header_that_the_library_refuses_is_refused(
    header: dict[str, Any], num_bytes: int
) -> None:
    content = with_header(json.dumps(header).encode(), num_bytes)
    try:
        read(content)
    except FormatError:
        return
    assert library_reads(content)


@given(content=st.binary(max_size=64), claimed=st.integers(0, 2**64 - 1) | st.none())
def test_any_bytes_are_refused_by_one_error(content: bytes, claimed: int | None) -> None:
    length = len(content) if claimed is None else claimed
    file = struct.pack("<Q", length) + content
    try:
        read(file)
    except FormatError:
        return
    assert library_reads(file)


def test_every_flipped_bit_of_a_header_is_refused_where_the_library_refuses_it() -> None:
    content = written({"weight": np.arange(6, dtype=np.float32), "b": np.zeros((2, 0), np.int8)})
    (length,) = struct.unpack_from("<Q", content)
    for position in range(8 + length):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            try:
                read(bytes(flipped))
            except FormatError:
                continue
            assert library_reads(bytes(flipped)), (position, bit)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "no tensors to publish"),
        ({"w": np.zeros(1, complex)}, "is complex128; expected one of"),
        ({"w": np.zeros(1, ml_dtypes.int4)}, "is int4; expected one of"),
        ({"__metadata__": np.zeros(1)}, "reserves that name"),
        ({"\ud800": np.zeros(1)}, "not UTF-8 text"),
        ({"w" * (MAX_HEADER_BYTES + 1): np.zeros(1)}, "the format allows 100,000,000"),
    ],
    ids=["none", "complex", "int4", "reserved", "surrogate", "header"],
)
def test_what_cannot_be_stored_is_refused_before_a_byte_is_written(
    tensors: dict[str, np.ndarray], message: str
) -> None:
    parts: list[object] = []
    with pytest.raises(ArtifactError, match=message):
        write_tensors(parts.append, tensors)
    assert not parts
