"""What comes of JSON is what orjson makes of it, whether its numbers are arrays or not."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.protocols.over_http.json_arrays import loads


def is_same(found: Any, expected: Any) -> bool:
    """Whether a value is another one but for arrays, which have the numbers of lists."""
    if isinstance(found, np.ndarray):
        numbers = np.array(expected, found.dtype)
        return numbers.shape == found.shape and bool((numbers == found).all())
    if isinstance(found, dict):
        same_keys = type(expected) is dict and [*found] == [*expected]
        return same_keys and all(is_same(found[key], expected[key]) for key in found)
    if isinstance(found, list):
        same_length = type(expected) is list and len(found) == len(expected)
        return same_length and all(map(is_same, found, expected))
    return type(found) is type(expected) and found == expected


def outcome(parse: Callable[[bytes], Any], text: bytes) -> Any:
    """What a parser says of a text: its value, or that it refuses it."""
    try:
        return parse(text)
    except orjson.JSONDecodeError:
        return "refused"


def is_read_rightly(text: bytes) -> bool:
    return is_same(outcome(loads, text), outcome(orjson.loads, text))


def request(data: Any, **more: Any) -> bytes:
    return orjson.dumps({"inputs": [{"name": "x", "shape": [2, 400], "data": data}], **more})


def data_of(text: bytes) -> Any:
    return loads(text)["inputs"][0]["data"]


WHOLE = list(range(-400, 400))


@pytest.mark.parametrize(
    ("numbers", "dtype"),
    [
        (WHOLE, np.int64),
        ([*WHOLE, 2**63 - 1, -(2**63)], np.int64),
        ([*range(800), 2**64 - 1], np.uint64),
        ([*WHOLE, 0.5], np.float64),
        ([0.1, 2**63, *WHOLE], np.float64),
        ([1e300, 5e-324, *WHOLE], np.float64),
    ],
)
def test_large_lists_of_numbers_are_arrays_that_hold_each_of_them(
    numbers: list[float], dtype: type
) -> None:
    padded = numbers * 8
    found = data_of(request(padded))
    assert isinstance(found, np.ndarray)
    assert found.dtype == dtype
    assert found.tolist() == padded


@pytest.mark.parametrize("shape", [(2, 400), (2, 5, 80), (64, 3, 8, 32)])
def test_lists_in_lists_of_equal_lengths_are_one_array(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    found = data_of(request(values.tolist()))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, values)


MANY = ", ".join(str(number / 7) for number in range(800))


@pytest.mark.parametrize(
    "data",
    [
        f"[[{MANY}], [{MANY}, 1]]",
        f"[[{MANY}], 1]",
        f"[1, [{MANY}]]",
        f"[[{MANY}, []], [{MANY}, 1]]",
        f"[[{MANY}, [1, 2]], [{MANY}, 1, 2]]",
        f"[[{MANY}, 1, []], [{MANY}, [2]]]",
        f"[{MANY}, true]",
        f'[{MANY}, "1"]',
        f"[{MANY}, null]",
        f"[{MANY}, {{}}]",
        f"[{MANY}, -1, 18446744073709551615]",
        f"[{MANY}, 18446744073709551616]",
        f'[{MANY}], "parameters": -{"9" * 20}',
        f'[{MANY}], "parameters": {"9" * 30}',
        f"[{MANY}, {'9' * 20}, -{'9' * 30}]",
        f'[{MANY}], "\\u0000": 1',
        f'[{MANY}], "": "\\u0000"',
        f"[{MANY}, 1e400]",
        f"[{MANY}, NaN]",
        f"[{MANY}, 01]",
        f"[{MANY},]",
        f'[{MANY}], "data": [1]',
        f'[{MANY}], "name": "["',
        f'[{MANY}], "name": "\\ud800"',
        f'[{MANY}], "parameters": {{"[": 1}}',
        "[" * 2000 + MANY + "]" * 2000,
        "[" + ", ".join(["[1]"] * 4000) + "]",
        "[" + ", ".join(["{}"] * 4000) + "]",
        "{" + ", ".join(f'"{number}": 1' for number in range(4000)) + "}",
        "[" + ", ".join(['"text"'] * 4000) + "]",
        "[" + ", ".join(["true"] * 4000) + "]",
        "[]" + " " * 8000,
    ],
)
def test_whatever_else_there_is_comes_as_orjson_has_it(data: str) -> None:
    text = f'{{"inputs": [{{"name": "x", "data": {data}}}]}}'.encode()
    assert len(text) > 4096
    assert is_read_rightly(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text('ab[]{\\"é,\0'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab[{\0"), inner),
)
NUMBERS = st.lists(
    st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(NUMBERS, st.integers(0, 400), JSON, st.randoms(use_true_random=False))
def test_any_json_is_read_as_orjson_reads_it(
    numbers: list[float], repeats: int, other: Any, chance: random.Random
) -> None:
    text = bytearray(request(numbers * repeats, other=other))
    assert is_read_rightly(bytes(text))
    text[chance.randrange(len(text))] = chance.choice(b'[]{},:"\\0-.e \xff')
    assert is_read_rightly(bytes(text))
