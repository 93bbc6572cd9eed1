"""Every key of a configuration: what it takes, its default and what it is for, from its sections.

Help, the pages of documentation and tests of sections are made of this.
"""

import inspect
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Len, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from base.config import MAX_INTEGER, OneOf, Section


class Choice(NamedTuple):
    """A section whose keys depend on a name that stands elsewhere.

    Attributes:
        key: Where the name stands.
        sections: What the section is for each name.
    """

    key: str
    sections: Mapping[str, type[Section]]


class Leaf(NamedTuple):
    """A key that has a value and no keys of its own.

    Attributes:
        path: Of keys, joined by points.
        accepted: What values it takes, in words.
        default: Its default as YAML; None: it must be given.
        description: What it is for.
        owner: The section that declares it: the same wherever that section stands.
        field: As the owner declares it.
    """

    path: str
    accepted: str
    default: str | None
    description: str
    owner: type[BaseModel]
    field: FieldInfo

    @property
    def name(self) -> str:
        """The last key of the path."""
        return self.path.rpartition(".")[2]

    @property
    def meaning(self) -> tuple[type[BaseModel], str]:
        """What two leaves share that mean the same in two places."""
        return self.owner, self.name


class Part(NamedTuple):
    """The keys of one section.

    Attributes:
        path: Of the section; empty for the whole configuration.
        condition: When it is read, such as "data.source: digits"; empty: always.
        purpose: What the section is for, and what it is for in this place.
        absent: Whether the section is null by default.
        leaves: Its keys that hold no section.
    """

    path: str
    condition: str
    purpose: str
    absent: bool
    leaves: tuple[Leaf, ...]


def parts(section: type[BaseModel], choices: Mapping[str, Choice] = {}) -> Iterator[Part]:
    """Yields every section within a section, and itself, that has keys with values.

    Args:
        section: The whole configuration.
        choices: By path, the sections whose keys depend on a name.
    """
    yield from _parts(section, "", "", "", PydanticUndefined, choices, absent=False)


def _parts(
    section: type[BaseModel],
    path: str,
    condition: str,
    role: str,
    default: Any,
    by_name: Mapping[str, Choice],
    *,
    absent: bool,
) -> Iterator[Part]:
    found, below = [], []
    for name, field in section.model_fields.items():
        inner = f"{path}.{name}" if path else name
        value = _default_of(field, name, default)
        if inner in by_name:
            choice = by_name[inner]
            below += [
                (kind, inner, f"{choice.key}: {chosen}", "", PydanticUndefined, False)
                for chosen, kind in choice.sections.items()
            ]
        elif (kind := section_in(field.annotation)) is not None:
            below.append((kind, inner, condition, field.description or "", value, value is None))
        else:
            found.append(_leaf(section, name, inner, field, value))
    if found:
        yield Part(path, condition, _purpose(section, role), absent, tuple(found))
    for kind, inner, when, described, value, is_absent in below:
        yield from _parts(kind, inner, when, described, value, by_name, absent=is_absent)


def section_in(annotation: Any) -> type[BaseModel] | None:
    """Returns the section that a field holds, also one beside null, or a list of it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_in, get_args(annotation))), None)


def _default_of(field: FieldInfo, name: str, section_default: Any) -> Any:
    """Returns the value of a field that is not given; undefined if it must be."""
    if isinstance(section_default, BaseModel):
        return getattr(section_default, name)
    return field.get_default(call_default_factory=True)


def _leaf(section: type[BaseModel], name: str, path: str, field: FieldInfo, default: Any) -> Leaf:
    # The class that declares it, not one that inherits it.
    owner = next(
        kind for kind in reversed(section.__mro__) if name in getattr(kind, "model_fields", ())
    )
    return Leaf(
        path,
        accepted(field.annotation, field.metadata),
        None if default is PydanticUndefined else as_yaml(default),
        _described(section, name),
        owner,
        field,
    )


def _described(section: type[BaseModel], name: str) -> str:
    """Returns a field's description, or that of the field of which it changes the default."""
    for kind in section.__mro__:
        field = getattr(kind, "model_fields", {}).get(name)
        if field is not None and field.description:
            return str(field.description)
    return ""


def _purpose(section: type[BaseModel], role: str) -> str:
    """Returns the first sentence of what a section says of itself, and its role in this place."""
    paragraph = inspect.cleandoc(section.__doc__ or "").partition("\n\n")[0]
    here = f" Here: {role}." if role else ""
    return " ".join(paragraph.split()) + here


def as_yaml(value: Any) -> str:
    """Returns a value on one line, as a file would have it."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    return value if isinstance(value, str) else json.dumps(value)


def accepted(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Says in words what values a type takes, limits included."""
    if get_origin(annotation) is Annotated:
        annotation, *inner = get_args(annotation)
        flat = [item for one in inner for item in getattr(one, "metadata", [one])]
        metadata = [*flat, *metadata]
    names = next((item.names for item in metadata if isinstance(item, OneOf)), None)
    if names is not None:
        return "one of " + ", ".join(names)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return ", or ".join(accepted(one, metadata) for one in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(as_yaml, arguments))
    if origin in (list, tuple):
        return f"list{_lengths(metadata)} of: {accepted(arguments[0])}"
    if annotation in (None, type(None)):
        return "null"
    words = {bool: "boolean", int: "integer", float: "number", str: "text", Path: "path"}
    return words[annotation] + _limits(metadata)


def _limits(metadata: Sequence[Any]) -> str:
    """Returns ", 1 to 5", ", from 0, below 1" and the like."""
    low, high = "", ""
    for limit in metadata:
        match limit:
            case Ge(ge=bound):
                low = f"from {_number(bound)}"
            case Gt(gt=bound):
                low = f"above {_number(bound)}"
            # What 64 bits hold is no limit that anybody chose.
            case Le(le=bound) if bound != MAX_INTEGER:
                high = f"to {_number(bound)}"
            case Lt(lt=bound) if bound != MAX_INTEGER + 1:
                high = f"below {_number(bound)}"
    between = " " if low.startswith("from") and high.startswith("to") else ", "
    text = between.join(filter(None, (low, high)))
    return f" {text}" if text else ""


def _lengths(metadata: Sequence[Any]) -> str:
    """Returns " (1 to 5)" and the like, of how many values a list has."""
    low, high = 0, None
    for limit in metadata:
        match limit:
            case MinLen(min_length=bound):
                low = bound
            case MaxLen(max_length=bound):
                high = bound
            case Len(min_length=low, max_length=high):
                pass
    if high is None:
        return f" ({low} or more)" if low else ""
    return f" ({low} to {high})"


def _number(bound: Any) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:,g}"
