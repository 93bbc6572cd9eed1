"""From a YAML file and options to a checked configuration: options count before the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from base.config import explain
from base.config_file import read_sections
from base.yaml_loader import YamlError
from serving.configuration.address import AddressError, check_host
from serving.configuration.schema import ServeConfig


class ConfigError(ValueError):
    """A configuration that is refused, in one line that says where, what and what is accepted."""


class Option(NamedTuple):
    """A value of the command line.

    Attributes:
        flag: As it was written, such as "--queue.max-requests".
        value: What it says.
    """

    flag: str
    value: Any


def load_config(file: Path | None, options: Mapping[str, Option]) -> ServeConfig:
    """Checks what a file and options say.

    Args:
        file: YAML; None: there is none.
        options: By the path of the key that each is for, such as "queue.max_requests".

    Raises:
        ConfigError: The file cannot be read, keys are unknown, or values are refused.
    """
    try:
        content = {} if file is None else read_sections(file, ServeConfig)
        for path, option in options.items():
            content = _replaced(content, path.split("."), option.value)
    except YamlError as error:
        raise ConfigError(one_line(error)) from error
    try:
        config = ServeConfig.model_validate(content)
    except ValidationError as error:
        problems = (_named(line, file, options) for line in explain(error, ServeConfig))
        raise ConfigError("; ".join(problems)) from error
    try:
        check_host(config.host, insecure_bind=config.insecure_bind)
    except AddressError as error:
        raise ConfigError(_named(f"host: {error}", file, options)) from error
    return config


def _replaced(section: Mapping[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    """Returns a section with one value in place of another, or beside the others."""
    key, *rest = keys
    if not rest:
        return {**section, key: value}
    inner = section.get(key)
    if inner is None:
        inner = {}
    if not isinstance(inner, Mapping):  # which is refused, as a file's is
        return dict(section)
    return {**section, key: _replaced(inner, rest, value)}


def _named(line: str, file: Path | None, options: Mapping[str, Option]) -> str:
    """A line of `explain`, with the option or the file where its key was given."""
    path, _, problem = line.partition(": ")
    for key, option in options.items():
        if path == key or path.startswith(f"{key}."):
            within = [part for part in path[len(key) :].split(".") if part and not part.isdecimal()]
            return ": ".join([option.flag, *within, problem])
    return line if file is None else f"{file}: {line}"


def one_line(error: object) -> str:
    """Returns a message that a library spread over several."""
    return " ".join(str(error).split())
