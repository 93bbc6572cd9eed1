"""What `--help-config` prints: every key of a configuration, section by section."""

import textwrap
from collections.abc import Iterator

from base.config_reference import Leaf, Part
from train.config.reference import parts

_WIDTH = 100


def help_text() -> str:
    """Returns every key with its default, what it takes and what it is for, in plain text."""
    return "\n".join(line for part in parts() for line in _lines(part)).rstrip()


def _lines(part: Part) -> Iterator[str]:
    conditions = [text for text in (part.condition, "null unless given" * part.absent) if text]
    when = f" ({'; '.join(conditions)})" if conditions else ""
    yield f"{part.path or 'Top level'}{when}"
    yield from _wrapped(part.purpose, indent=2)
    yield ""
    for leaf in part.leaves:
        yield f"  {leaf.path}: {'(required)' if leaf.default is None else leaf.default}"
        yield from _wrapped(_words(leaf), indent=6)
    yield ""


def _words(leaf: Leaf) -> str:
    return f"{leaf.accepted}; {leaf.description}"


def _wrapped(text: str, indent: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(text, _WIDTH, initial_indent=margin, subsequent_indent=margin)
