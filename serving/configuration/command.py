"""A command line made of the configuration: an option for each key, in the section's words."""

import argparse
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from base.config_reference import Leaf, Part, parts
from base.options import Parser
from base.program import end_with_error, from_user
from base.yaml_loader import YamlError, load_yaml
from serving.configuration.load import ConfigError, Option, load_config, one_line
from serving.configuration.schema import ServeConfig

_MODELS = "models"
_MODEL = "--model"

_MAX_SHOWN = 100

# What other programs of this project call it.
_ALSO_MODEL = "--artifact"

# What the keys without a section are of.
_TOP = "the gateway, and what holds for models that do not say otherwise"


def config_of(
    arguments: Sequence[str] | None, *, program: str, documentation: str | None
) -> ServeConfig:
    """Returns what a command line says, or ends the program with one line on stderr, or with help.

    Args:
        arguments: Of the program; None: its own.
        program: What it is called in help, such as "//serving:up".
        documentation: Of it, of which help shows the first line.
    """
    parser = _parser(program, documentation)
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_unknown(unknown[0]))
    given = vars(known)
    try:
        options = {
            leaf.path: Option(flag(leaf.path), _value(leaf, given[leaf.path]))
            for part in own_parts()
            for leaf in part.leaves
            if given[leaf.path] is not None
        }
        if given[_MODELS]:
            options[_MODELS] = Option(_MODEL, [_model(text) for text in given[_MODELS]])
        return load_config(_file(given["config"]), options)
    except ConfigError as error:
        end_with_error(error)


def flag(path: str) -> str:
    """Returns the option of a key."""
    return "--" + path.replace("_", "-")


def own_parts() -> Iterator[Part]:
    """Yields the sections of the configuration, without those that a model has of its own.

    Keys that only the gateway has come before those that hold for its models.
    """
    for part in parts(ServeConfig):
        if part.path.partition(".")[0] != _MODELS:
            leaves = sorted(part.leaves, key=lambda leaf: leaf.owner is not ServeConfig)
            yield part._replace(leaves=tuple(leaves))


def _parser(program: str, documentation: str | None) -> Parser:
    parser = Parser(documentation)
    parser.prog, parser.usage = program, "%(prog)s --model REFERENCE [OPTIONS]"
    parser.add_argument(
        _MODEL,
        action="append",
        dest=_MODELS,
        metavar="REFERENCE",
        help="what to serve: digits@champion, bytes:1, or ./DIRECTORY of an artifact; repeatable; "
        "with keys of its own '{reference: bytes:1, name: text, replicas: 2}'",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML that says all of this, such as config/serve.yaml; options count before it",
    )
    for part in own_parts():
        purpose = part.purpose.partition(" Here: ")[0]
        group = parser.add_argument_group(*((part.path, purpose) if part.path else (_TOP,)))
        for leaf in part.leaves:
            _add(group, leaf)
    return parser


def _add(group: argparse._ArgumentGroup, leaf: Leaf) -> None:
    default = f"(default: {leaf.default})".replace("%", "%%")
    about = leaf.description.replace("%", "%%")
    if leaf.field.annotation is bool:
        group.add_argument(
            flag(leaf.path),
            dest=leaf.path,
            action=argparse.BooleanOptionalAction,
            help=f"{about} {default}",
        )
    else:
        group.add_argument(
            flag(leaf.path),
            dest=leaf.path,
            metavar="VALUE",
            help=f"{about}; {leaf.accepted} {default}",
        )


def _unknown(argument: str) -> str:
    """Says of an argument that it is none, and what may have been meant."""
    if not argument.startswith("-"):
        shown = argument[:_MAX_SHOWN]
        return f"unexpected argument {shown!r}; name a model by {_MODEL} {shown}"
    option, _, _ = argument.partition("=")
    options = [
        _MODEL,
        "--config",
        *(flag(leaf.path) for part in own_parts() for leaf in part.leaves),
    ]
    close = [_MODEL] if option == _ALSO_MODEL else difflib.get_close_matches(option, options, n=1)
    hint = f", did you mean {close[0]}?" if close else ""
    return f"unknown option {option[:_MAX_SHOWN]}{hint}"


def _value(leaf: Leaf, given: str | bool) -> Any:
    """Reads an option as a file would be read, but that text needs no quotes."""
    if isinstance(given, bool):
        return given
    kinds = [leaf.field.annotation, *get_args(leaf.field.annotation)]
    is_text = str in kinds or any(
        isinstance(word, str) for kind in kinds for word in get_args(kind)
    )
    if is_text:
        return None if given == "null" and type(None) in kinds else given
    if not given.strip():
        raise ConfigError(f"{flag(leaf.path)}: expected {leaf.accepted}, got {given!r}")
    return _yaml(given, flag(leaf.path))


def _model(text: str) -> Any:
    """Reads a reference, or a section in braces."""
    return _yaml(text, _MODEL) if text.lstrip().startswith("{") else text


def _yaml(text: str, option: str) -> Any:
    try:
        return load_yaml(text)
    except YamlError as error:
        raise ConfigError(f"{option}: {one_line(error)}") from error


def _file(config: str | None) -> Path | None:
    if config == "":
        raise ConfigError("--config: expected the path of a YAML file, got ''")
    return None if config is None else from_user(config)
