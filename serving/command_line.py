"""A command line made of a section: an option a field, which has its name, default and bounds."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from base.config import Section, explain
from base.program import PathError, directory_from_user, end_with_error

_Config = TypeVar("_Config", bound=Section)

# What an option's text is read as; the section checks the rest.
_READ_AS = (bool, int, float)


def command_of(section: type[_Config], run: Callable[[_Config], None]) -> Callable[..., None]:
    """A function that typer makes a command of, with the documentation of `run`.

    Args:
        section: what can be configured, without sections in it. A path is a directory.
        run: called with what the options say, once all of it is accepted.
    """

    def command(**values: Any) -> None:
        try:
            config = section.model_validate(values | _paths(values, section))
        except PathError as error:
            end_with_error(error)
        except ValidationError as error:
            end_with_error("; ".join(_name_flag(line, section) for line in explain(error, section)))
        run(config)

    fields = section.model_fields.items()
    parameters = [_parameter(name, field, accepted(section, name)) for name, field in fields]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = run.__doc__
    return command


def flag(name: str) -> str:
    """The option of a field."""
    return "--" + name.replace("_", "-")


def accepted(section: type[Section], name: str) -> str:
    """The values that a field takes, in words; "" where its type says all."""
    schema = section.model_json_schema()["properties"][name]
    schema = next((choice for choice in schema.get("anyOf", ()) if "enum" in choice), schema)
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if "exclusiveMinimum" in schema:
        return f"more than {schema['exclusiveMinimum']:,g}, at most {schema['maximum']:,g}"
    if "minimum" in schema:
        return f"{schema['minimum']:,} to {schema['maximum']:,}"
    return ""


def _parameter(name: str, field: FieldInfo, accepted: str) -> inspect.Parameter:
    read_as = field.annotation if field.annotation in _READ_AS else str
    text = ". ".join(filter(None, [field.description, accepted and f"Accepted: {accepted}"]))
    # Named in full, so that a switch has no --no- beside it.
    option = typer.Option(flag(name), help=text + ".", show_default=field.default is not None)
    default = inspect.Parameter.empty if field.is_required() else field.default
    optional = read_as if field.is_required() or default is not None else read_as | None
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[optional, option],
    )


def _paths(values: Mapping[str, str], section: type[Section]) -> dict[str, Path]:
    """Those of the options that are directories, as the user sees them."""
    return {
        name: directory_from_user(
            values[name], f"{flag(name)} is ''; name a directory, or '.' for this one"
        )
        for name, field in section.model_fields.items()
        if field.annotation is Path
    }


def _name_flag(line: str, section: type[Section]) -> str:
    """A line of `explain` about a field, about the field's option."""
    name, separator, problem = line.partition(": ")
    return f"{flag(name)}{separator}{problem}" if name in section.model_fields else line
