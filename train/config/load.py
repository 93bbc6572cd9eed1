"""From a YAML file and a command line to a checked configuration."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from base.config import explain
from base.config_file import read_sections
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
    try:
        content = apply_overrides(read_sections(path, TrainConfig), overrides)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        subject = " ".join([str(path), *map(in_words, overrides)])
        problems = "".join(f"\n  {line}" for line in explain(error, TrainConfig))
        raise ConfigError(f"{subject} is not a training configuration:{problems}") from error
