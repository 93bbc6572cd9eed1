"""Single values given on the command line: `--set zero.stage=2` instead of an edited YAML file."""

from collections.abc import Mapping, Sequence
from typing import Any

from base.config import shown
from base.yaml_loader import MAX_DEPTH, YamlError, load_yaml

_MAX_SHOWN = 200


def in_words(override: str) -> str:
    """Returns the option as it was given, cut to what a message can hold."""
    return f"--set {override if len(override) <= _MAX_SHOWN else override[:_MAX_SHOWN] + '...'}"


def apply_overrides(content: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns `content` with values replaced or added.

    Args:
        content: Sections within sections, as YAML gives them; left as it is.
        overrides: Each `key.path=value` with the value in YAML; an empty one is null. Sections on
            the way are made where they are missing, and of two for one key the later counts.

    Raises:
        ValueError: An override is malformed, or leads through a value that is no section. Whether
            keys and values mean anything is for the one who validates the result to say.
    """
    result = dict(content)
    for override in overrides:
        path, value = _parse(override)
        result = _replace(result, path, value, override)
    return result


def _parse(override: str) -> tuple[list[str], Any]:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not (equals and all(path)):
        raise ValueError(
            f"{in_words(override)}: expected key.path=value, such as --set run.num_steps=100"
        )
    if len(path) > MAX_DEPTH:
        raise ValueError(
            f"{in_words(override)}: {len(path):,} keys deep; expected at most {MAX_DEPTH}"
        )
    try:
        return path, load_yaml(text)
    except YamlError as error:
        raise ValueError(f"{in_words(override)}: {error}") from error


def _replace(
    section: Mapping[str, Any], path: Sequence[str], value: Any, override: str
) -> dict[str, Any]:
    key, *rest = path
    if not rest:
        return {**section, key: value}
    inner = section.get(key)
    if inner is None:
        inner = {}
    if not isinstance(inner, Mapping):
        raise ValueError(f"{in_words(override)}: {key} is {shown(inner)}, which holds no keys")
    return {**section, key: _replace(inner, rest, value, override)}
