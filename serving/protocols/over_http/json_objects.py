"""JSON that came from the network: parsed within limits, its keys and types checked."""

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from serving.core.errors import Kind, ServingError, invalid, quote
from serving.protocols.over_http.json_arrays import loads

Json = Any


def parse_json(where: str, text: bytes | bytearray | memoryview, max_bytes: int) -> Json:
    """Parses strictly: no NaN, no infinity, and at most about a thousand brackets in each other.

    Integers are exact from -2^63 to 2^64 - 1; beyond, they are floating-point numbers. Large lists
    of numbers are arrays, as `json_arrays.loads` says.

    Args:
        where: what it is, as errors name it.
        text: UTF-8.
        max_bytes: that are parsed, since it takes time in which nobody else is answered.

    Raises:
        ServingError: INVALID or TOO_LARGE.
    """
    if len(text) > max_bytes:
        raise ServingError(
            Kind.TOO_LARGE,
            f"{where} has {len(text):,} bytes of JSON; expected at most {max_bytes:,}. Larger "
            "tensors are sent as binary data after the JSON",
        )
    try:
        return loads(bytes(text))
    except orjson.JSONDecodeError as error:
        raise invalid(f"{where} is no JSON that is accepted here: {error}") from None


def parse_object(
    where: str, text: bytes | bytearray | memoryview, max_bytes: int
) -> dict[str, Json]:
    """Parses what must be an object; see `parse_json`."""
    value = parse_json(where, text, max_bytes)
    if type(value) is not dict:
        raise invalid(f"{where}: expected a JSON object")
    return value


class Keys:
    """The keys of an object.

    Args:
        required: those that it must have.
        optional: those that it may have besides.
    """

    def __init__(self, *required: str, optional: Collection[str] = ()) -> None:
        self._required = frozenset(required)
        self._accepted = self._required.union(optional)
        self._in_order = [*required, *optional]

    def check(self, where: str, value: Json) -> None:
        """Refuses what is no object, or lacks a key, or has one that nobody would heed.

        Raises:
            ServingError: INVALID; the message says which keys there are.
        """
        if type(value) is dict and self._required <= value.keys() <= self._accepted:
            return
        accepted = ", ".join(self._in_order) or "none"
        if type(value) is not dict:
            raise invalid(f"{where}: expected an object; its keys: {accepted}")
        for key in value:
            if key not in self._accepted:
                raise invalid(f"{where}: unknown key {quote(key)}; accepted: {accepted}")
        missing = next(key for key in self._in_order if key not in value)
        raise invalid(f"{where}: {missing} is missing; expected {accepted}")


def text_of(where: str, value: Mapping[str, Json], key: str) -> str:
    """A string by its key.

    Raises:
        ServingError: INVALID.
    """
    text = value[key]
    if type(text) is not str:
        raise invalid(f"{where}: {key}: expected a string")
    return text


def optional_text(where: str, value: Mapping[str, Json], key: str) -> str | None:
    """A string by its key, or None where there is none; see `text_of`."""
    return None if value.get(key) is None else text_of(where, value, key)


def parameters_of(where: str, value: Mapping[str, Json]) -> Mapping[str, Any]:
    """The object `parameters` of something, in which there are no lists and no objects.

    Raises:
        ServingError: INVALID.
    """
    parameters = value.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise invalid(f"{where}: parameters: expected an object")
    for name, one in parameters.items():
        if type(one) not in (bool, int, float, str):
            raise invalid(
                f"{where}: parameter {quote(name)}: expected a number, a string, true or false"
            )
    return parameters
