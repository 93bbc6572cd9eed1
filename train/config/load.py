"""From a YAML file and a command line to a checked configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from base.config import explain
from base.yaml_loader import MAX_CHARACTERS, YamlError, load_yaml
from train.config.overrides import apply_overrides, in_words
from train.config.schema import ConfigError, TrainConfig


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Reads and checks a YAML file.

    Args:
        path: The file.
        overrides: Values to use instead of the file's, see `train.config.overrides`.

    Raises:
        ConfigError: The file is missing or not YAML, repeats a key, or has keys that are unknown,
            missing, of the wrong type or out of range; or an override is malformed.
    """
    content = _parse_yaml(path)
    try:
        content = apply_overrides(content, overrides)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        subject = " ".join([str(path), *map(in_words, overrides)])
        problems = "".join(f"\n  {line}" for line in explain(error, TrainConfig))
        raise ConfigError(f"{subject} is not a training configuration:{problems}") from error


def _parse_yaml(path: Path) -> dict[str, Any]:
    try:
        content = load_yaml(_read(path))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not valid YAML: expected UTF-8, {error}") from error
    except YamlError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        sections = ", ".join(TrainConfig.model_fields)
        raise ConfigError(f"{path} holds no sections; expected {sections}")
    return content


def _read(path: Path) -> str:
    """Reads no more than what tells a file, or an endless device, from a configuration."""
    with path.open("rb") as file:
        content = file.read(4 * MAX_CHARACTERS + 1)  # a character takes up to four bytes
    if len(content) > 4 * MAX_CHARACTERS:
        raise YamlError(f"expected a file of at most {4 * MAX_CHARACTERS:,} bytes")
    return content.decode("utf-8")
