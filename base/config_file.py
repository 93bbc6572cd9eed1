"""From a YAML file to the keys and values of a configuration, which are not checked yet."""

from pathlib import Path
from typing import Any

from base.config import Section
from base.yaml_loader import MAX_CHARACTERS, YamlError, load_yaml


def read_sections(path: Path, section: type[Section]) -> dict[str, Any]:
    """Reads the keys of a file; whether they mean anything is for `section` to say.

    Args:
        path: The file.
        section: What it is to hold, for the message.

    Raises:
        YamlError: The file is missing, is not YAML or holds no keys; the message names it.
    """
    try:
        content = load_yaml(_read(path))
    except OSError as error:
        raise YamlError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise YamlError(f"{path} is not valid YAML: expected UTF-8, {error}") from error
    except YamlError as error:
        raise YamlError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise YamlError(f"{path} holds no sections; expected {', '.join(section.model_fields)}")
    return content


def _read(path: Path) -> str:
    """Reads no more than what tells a file, or an endless device, from a configuration."""
    with path.open("rb") as file:
        content = file.read(4 * MAX_CHARACTERS + 1)  # a character takes up to four bytes
    if len(content) > 4 * MAX_CHARACTERS:
        raise YamlError(f"expected a file of at most {4 * MAX_CHARACTERS:,} bytes")
    return content.decode("utf-8")
