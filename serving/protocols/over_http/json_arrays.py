"""JSON that is mostly numbers, parsed without an object of Python's for each of them.

A list of numbers takes orjson, and the checks and numpy after it, two to three times as long as
simdjson, which has them side by side in memory.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import simdjson

Json = Any

# Text and lists below are not worth it.
_MIN_BYTES = 4096
_MIN_NUMBERS = 256
# Nor are rows of fewer bytes of text, as each is looked at.
_MIN_ROW_BYTES = 64

# Requests have fewer of each; a key costs as much time as there are keys.
_MAX_OBJECTS = 64
_MAX_KEYS = 64
_MAX_DIMENSIONS = 8
_MAX_DEPTH = 8

# RuntimeError stands for some integers of more than 64 bits and ValueError for others, KeyError for
# a key with NUL.
_SIMDJSON_ERRORS = (KeyError, RuntimeError, TypeError, ValueError)


class _OtherwiseError(Exception):
    """It is for orjson: numbers are not what there is most of, or it is not certain what it is."""


def loads(text: bytes) -> Json:
    """Parses JSON as strictly as `orjson.loads`, and to the same, but for large lists of numbers.

    Args:
        text: UTF-8.

    Returns:
        Values of Python. The value of a key may be an array of numpy in place of a list, or of
        lists nested to equal lengths, of at least 256 numbers: int64, or uint64 where one is
        above, if all of them are whole numbers without a point or exponent, and float64 otherwise.

    Raises:
        orjson.JSONDecodeError: It is no JSON.
    """
    if len(text) >= _MIN_BYTES:
        try:
            return _loads(text)
        except (_OtherwiseError, *_SIMDJSON_ERRORS):
            pass  # orjson has the last word
    return orjson.loads(text)


def _loads(text: bytes) -> Json:
    num_brackets = text.count(b"[")
    if num_brackets * _MIN_ROW_BYTES > len(text):
        raise _OtherwiseError
    reader = _Reader()
    value = reader.read(simdjson.Parser().parse(text))
    # simdjson makes one list of lists in lists, however they are nested. If there are no brackets
    # but those that were looked at, there was none among the numbers.
    if num_brackets != reader.num_lists:
        raise _OtherwiseError
    return value


class _Reader:
    """Makes values of Python and numpy of a parsed document.

    Attributes:
        num_lists: That were seen.
    """

    def __init__(self) -> None:
        self.num_lists = 0

    def read(self, node: Any, depth: int = 0) -> Json:
        """Returns a value, and raises _OtherwiseError if it cannot be made for certain."""
        if depth > _MAX_DEPTH:
            raise _OtherwiseError
        if isinstance(node, simdjson.Object):
            if len(node) > _MAX_KEYS:
                raise _OtherwiseError
            fields = {key: self.read(node[key], depth + 1) for key in node}
            if len(fields) != len(node):  # a key that came twice: the last one holds
                raise _OtherwiseError
            return fields
        return self._list(node, depth) if isinstance(node, simdjson.Array) else node

    def _list(self, node: simdjson.Array, depth: int) -> Json:
        if len(node) and isinstance(node[0], simdjson.Object):
            if len(node) > _MAX_OBJECTS:
                raise _OtherwiseError
            self.num_lists += 1
            return [self.read(child, depth + 1) for child in node]
        shape = self._shape(node)
        self.num_lists += sum(math.prod(shape[:axis]) for axis in range(len(shape)))
        size = math.prod(shape)
        if size < _MIN_NUMBERS:
            return node.as_list()
        numbers = _numbers(node)
        if numbers.size != size:
            raise _OtherwiseError
        return numbers.reshape(shape)

    def _shape(self, node: simdjson.Array) -> Sequence[int]:
        """The shape of a list, if an innermost one whose first element is no list has none."""
        shape, level = [len(node)], [node]
        while shape[-1] and isinstance(level[0][0], simdjson.Array):
            level = [row for rows in level for row in rows]
            if len(shape) == _MAX_DIMENSIONS:
                raise _OtherwiseError
            if {*map(type, level)} != {simdjson.Array} or len({*map(len, level)}) != 1:
                raise _OtherwiseError
            shape.append(len(level[0]))
        return shape


def _numbers(node: simdjson.Array) -> np.ndarray:
    """The numbers of a list, flat, in a type that holds each of them as it was written."""
    try:
        return _as(node, "i", np.int64)
    except ValueError:  # one is too large
        try:
            return _as(node, "u", np.uint64)
        except TypeError:
            pass
    except TypeError:  # one has a point or exponent, or is no number
        pass
    try:
        return _as(node, "d", np.float64)
    except TypeError as error:
        raise _OtherwiseError from error


def _as(node: simdjson.Array, of_type: str, dtype: type) -> np.ndarray:
    return np.frombuffer(node.as_buffer(of_type=of_type), dtype)
