"""Every key as a YAML file has it, with its default and what it is for."""

import textwrap
from collections.abc import Iterable, Iterator

from base.config_reference import Leaf, Part
from base.yaml_loader import YamlError, load_yaml

_WIDTH = 100
_INDENT = "  "


def example(written: str, mark: str, parts: Iterable[Part]) -> str:
    """Returns a file with its keys as they should be.

    Args:
        written: The file as it is; what stands above the mark is written by hand and stays.
        mark: The line after which they stand.
        parts: The sections that they are of.

    Raises:
        ValueError: It has no such line, or more than one.
    """
    if written.count(mark) != 1:
        raise ValueError(f"expected one line {mark}")
    head, _, _ = written.partition(mark)
    lines = (line for part in parts for line in _lines(part))
    return "\n".join([head + mark, *lines, ""])


def _lines(part: Part) -> Iterator[str]:
    keys = part.path.split(".") if part.path else []
    yield ""
    if keys:
        outer = _INDENT * (len(keys) - 1)
        yield from _comment(part.purpose.partition(" Here: ")[0], outer)
        yield f"{outer}{keys[-1]}:"
    for leaf in part.leaves:
        yield from _comment(f"{leaf.description} ({leaf.accepted}).", _INDENT * len(keys))
        yield f"{_INDENT * len(keys)}{leaf.name}: {_value(leaf)}"


def _comment(text: str, indent: str) -> list[str]:
    margin = f"{indent}# "
    return textwrap.wrap(text, _WIDTH, initial_indent=margin, subsequent_indent=margin)


def _value(leaf: Leaf) -> str:
    """Returns the default, in quotes where it would be read as something other than text."""
    assert leaf.default is not None  # nothing but models is required, and those are written by hand
    kinds = str(leaf.accepted).split(", or ")
    if "text" in kinds and leaf.default != "null" and not _is_text(leaf.default):
        return f'"{leaf.default}"'
    return leaf.default


def _is_text(default: str) -> bool:
    try:
        return bool(load_yaml(default) == default)
    except YamlError:
        return False
