"""Configurations as YAML gives them: sections within sections, changed by path."""

import copy
from collections.abc import Mapping
from typing import Any

Content = dict[str, Any]


def get(content: Mapping[str, Any], path: str) -> Any:
    """Returns the value at a path; None if it is not there."""
    value: Any = content
    for key in path.split(".") if path else ():
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def with_value(content: Content, path: str, value: Any) -> Content:
    """Returns a copy with another value at a path; sections on the way are made."""
    key, _, rest = path.partition(".")
    inner = with_value(content.get(key) or {}, rest, value) if rest else value
    return {**content, key: inner}


def merged(one: Content, other: Content) -> Content:
    """Returns both, of which the second counts where both have a value."""
    result = copy.deepcopy(one)
    for key, value in other.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result
