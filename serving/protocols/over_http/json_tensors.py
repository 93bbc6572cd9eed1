"""The values of a tensor in JSON: lists or arrays of numbers to a datatype's, and back.

Reference: https://github.com/kserve/open-inference-protocol, "Tensor Data".
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from serving.core.errors import ServingError, invalid
from serving.core.signature import DTYPES
from serving.core.validation import is_finite, quote_shape
from serving.protocols.elements import BYTES

# They have no form in JSON that all agree on, so they are binary only, as in Triton and KServe.
BINARY_ONLY = ("FP16", "BF16")

# By the kind of a datatype in numpy: which values of JSON it takes, and what they are called.
_ACCEPTED: dict[str, tuple[frozenset[type], str]] = {
    "b": (frozenset([bool]), "true and false"),
    "i": (frozenset([int]), "whole numbers"),
    "u": (frozenset([int]), "whole numbers"),
}
_NUMBERS = (frozenset([int, float]), "numbers")


def elements_of(where: str, datatype: str, data: Any, shape: Sequence[int]) -> np.ndarray:
    """The elements [num_elements] of a tensor, in an array of their own.

    Args:
        where: the tensor, as errors name it: "input 'image'".
        datatype: a key of DTYPES, but not of BINARY_ONLY.
        data: as JSON had it: all elements in one list, or nested lists as the shape says; large
            lists of numbers as an array, see `json_arrays`.
        shape: of the tensor, at least one dimension.

    Raises:
        ServingError: INVALID; the message says what is accepted.
    """
    if datatype in BINARY_ONLY:
        raise invalid(
            f"{where} is {datatype}, which has no form in JSON; expected binary_data_size and the "
            "tensor's bytes after the JSON"
        )
    return numbers_of(where, datatype, flatten(where, data, shape))


def flatten(where: str, data: Any, shape: Sequence[int]) -> list[Any] | np.ndarray:
    """The elements of a list, or array, that is flat already, or nested as the shape says.

    Raises:
        ServingError: INVALID: it has another shape.
    """
    count = math.prod(shape)
    if isinstance(data, np.ndarray):
        if data.shape in ((count,), tuple(shape)):
            return data.ravel()
        data = data.tolist()
    if type(data) is not list:
        raise _other_list(where, shape, f"{where} has data that is {_shown(data)}")
    nested = bool(data) and type(data[0]) is list
    if not nested or len(shape) == 1:
        if len(data) != count:
            raise _other_list(where, shape, f"{where} has {len(data)} elements")
        return data
    level = data
    for dimension, size in enumerate(shape):
        if dimension:
            if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
                raise _other_list(where, shape, f"{where} has lists of other lengths")
            level = list(itertools.chain.from_iterable(level))
        elif len(level) != size:
            raise _other_list(where, shape, f"{where} has {len(level)} lists")
    return level


def numbers_of(where: str, datatype: str, flat: list[Any] | np.ndarray) -> np.ndarray:
    """Values of JSON as a datatype has them; none is cut off, and a string is no number.

    Raises:
        ServingError: INVALID.
    """
    dtype = DTYPES[datatype]
    kinds, words = _ACCEPTED.get(dtype.kind, _NUMBERS)
    other = _other_than(kinds, flat)
    if other:
        raise invalid(f"{where} has {other}; expected {words} for {datatype}")
    try:
        return _cast(flat, dtype)
    except (OverflowError, FloatingPointError):
        limits = np.iinfo(dtype) if dtype.kind in "iu" else ml_dtypes.finfo(dtype)
        raise invalid(
            f"{where} has values outside {datatype}; expected {limits.min} to {limits.max}"
        ) from None


def _other_than(kinds: frozenset[type], flat: list[Any] | np.ndarray) -> str:
    """What is of none of the kinds, in words; "": nothing is."""
    if isinstance(flat, np.ndarray):
        if (float if flat.dtype.kind == "f" else int) in kinds:
            return ""
        if int in kinds:
            return "numbers with a point or an exponent"
        return f"the element {flat[0]}"
    if kinds.issuperset(map(type, flat)):
        return ""
    return f"the element {_shown(next(value for value in flat if type(value) not in kinds))}"


def _cast(flat: list[Any] | np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The same in an array of its own; OverflowError or FloatingPointError where it is too much."""
    if isinstance(flat, np.ndarray) and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if int(flat.min()) < limits.min or int(flat.max()) > limits.max:
            raise OverflowError
    with np.errstate(over="raise"):
        return np.array(flat, dtype)


def from_array(name: str, datatype: str, array: np.ndarray) -> Any:
    """An output as a flat list, for `replies.json_reply`.

    Raises:
        ServingError: INVALID: JSON has no NaN and no infinite numbers.
    """
    if datatype == BYTES:
        return [value.decode() for value in array.ravel()]
    if not is_finite(array):
        raise invalid(
            f"output {name!r} has NaN or infinite values, which JSON has not; expected binary_data "
            "true of that output, or binary_data_output true of the request"
        )
    return np.ascontiguousarray(array).ravel()


def _other_list(where: str, shape: Sequence[int], what: str) -> ServingError:
    count = math.prod(shape)
    return invalid(
        f"{what}; expected {count} for its shape {quote_shape(shape)}, in one list or nested so"
    )


def _shown(value: Any) -> str:
    """A value of JSON in a message, by kind where it can be long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list | np.ndarray) else "an object"
