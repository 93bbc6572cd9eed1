"""Other values that a key might have, likely ones first."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from base.config import OneOf
from base.config_reference import Leaf

_TEXTS = ("other", "2.0.0")
_INTEGERS = (2, 1, 4, 3, 8, 16, 5)
_NUMBERS = (0.5, 0.25, 2.0, 0.1, 0.75, 1.0, 4.0, 8.0)


def others(leaf: Leaf, value: Any) -> Iterator[Any]:
    """Yields values of the right type that are not `value`; some may be out of range."""
    for other in _values(leaf.field.annotation, value, leaf.field.metadata):
        if other != value or type(other) is not type(value):
            yield other


def _values(annotation: Any, value: Any, metadata: Any = ()) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        annotation, *inner = get_args(annotation)
        metadata = [*metadata, *inner]
    for item in metadata:
        if isinstance(item, OneOf):
            yield from item.names
            return
    arguments = get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        for argument in arguments:
            yield from _values(argument, value)
    elif get_origin(annotation) is Literal:
        yield from arguments
    elif get_origin(annotation) in (list, tuple):
        yield from _lists(arguments[0], value)
    elif annotation is bool:
        yield from (True, False)
    elif annotation is int:
        yield from _integers(value)
    elif annotation is float:
        yield from _numbers(value)
    elif annotation is str:
        yield from _TEXTS
    elif annotation is type(None):
        yield None
    else:
        raise TypeError(f"{annotation!r}: say in tests/effects/values.py which values it has")


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, int) and value > 0:
        yield from (2 * value, value + 1, value // 2, value - 1, 4 * value)
    yield from (*_INTEGERS, 0)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float) and value > 0:
        yield from (value / 2, 2 * value, (1 + value) / 2)
    yield from (*_NUMBERS, 0.0)


def _lists(item: Any, value: Any) -> Iterator[list[Any]]:
    """Changes one value of a list, or its length."""
    values = list(value) if isinstance(value, (list, tuple)) else []
    for number, old in enumerate(values):
        for new in _values(item, old):
            yield [*values[:number], new, *values[number + 1 :]]
    if values:
        yield values[:-1]
        yield [*values, values[-1]]
    else:
        yield from ([new] for new in _values(item, None))
