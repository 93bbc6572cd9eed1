"""YAML 1.2 in its core schema, as plain values: `010` is 10, and `yes`, `1:30` and `<<` are text.

PyYAML reads the syntax. What a scalar means is stated here: PyYAML's own answer is YAML 1.1's.

Reference: https://yaml.org/spec/1.2.2/, section 10.3.2.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import yaml
from yaml.composer import Composer, ComposerError
from yaml.events import ScalarEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from base.config import in_path, shown

# Far beyond any configuration, and read within seconds.
MAX_CHARACTERS = 2**17
MAX_DEPTH = 32
# Aliases count wherever they stand: a few lines of them can stand for billions of values.
MAX_VALUES = 10_000
# Python itself refuses to print integers of more than 4,300 digits.
MAX_DIGITS = 1_000

_TAG = "tag:yaml.org,2002:"
_STRING, _SEQUENCE, _MAPPING = f"{_TAG}str", f"{_TAG}seq", f"{_TAG}map"


class YamlError(ValueError):
    """Text that is not YAML or goes beyond a limit; the message says where and what is accepted."""


class _Kind(NamedTuple):
    pattern: re.Pattern[str]
    convert: Callable[[str], Any]


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(text):,} digits; expected at most {MAX_DIGITS:,}")
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(text: str) -> float:
    text = text.lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


# What a scalar without quotes is: the first kind that matches, or else a string.
_KINDS = {
    f"{_TAG}null": _Kind(re.compile(r"null|Null|NULL|~|"), lambda _: None),
    f"{_TAG}bool": _Kind(
        re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"
    ),
    f"{_TAG}int": _Kind(re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"), _integer),
    f"{_TAG}float": _Kind(
        re.compile(
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
            r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
        ),
        _float,
    ),
}


def load_yaml(text: str) -> Any:
    """Returns what one YAML document says, in None, bool, int, float, str, list and dict.

    Keys are strings, and none comes twice in a mapping.

    Raises:
        YamlError: The text is not one such document, or is larger or deeper than the limits above.
    """
    if len(text) > MAX_CHARACTERS:
        raise YamlError(
            f"the text has {len(text):,} characters; expected at most {MAX_CHARACTERS:,}"
        )
    try:
        root = _NodeReader(text).get_single_node()
    # PyYAML converts numbers of escapes and of %YAML without a look at their size.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise YamlError(f"not valid YAML: {error}") from error
    return None if root is None else _Values().value_of(root, ())


class _NodeReader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML's way from text to nodes, with tags of the core schema."""

    def __init__(self, text: str):
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Reads one node, which calls this again for those in it."""
        event = self.peek_event()
        if self._depth == MAX_DEPTH:
            raise ComposerError(None, None, _too_deep(), event.start_mark)
        if isinstance(event, ScalarEvent) and event.tag == "!":  # says: whatever it looks like
            event.tag = _STRING
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def resolve(self, kind: type[Node], value: str | None, implicit: Any) -> str:
        """Returns the tag of a node that has none; `implicit[0]`: it is a scalar without quotes."""
        if kind is not ScalarNode:
            return _MAPPING if kind is MappingNode else _SEQUENCE
        kinds = _KINDS.items() if implicit[0] else ()
        return next((tag for tag, kind in kinds if kind.pattern.fullmatch(value or "")), _STRING)


class _Values:
    """Makes values of nodes, and counts them."""

    def __init__(self) -> None:
        self._count = 0

    def value_of(self, node: Node, path: tuple[str, ...]) -> Any:
        """Returns the value of a node that stands at `path`, a key or an index for each level."""
        self._count += 1
        if self._count > MAX_VALUES:
            raise _error(
                node,
                path,
                f"more than {MAX_VALUES:,} values, where aliases count as what they stand for",
            )
        if len(path) > MAX_DEPTH:  # an alias within what it stands for
            raise _error(node, path, _too_deep())
        match node:
            case MappingNode(tag=tag) if tag == _MAPPING:
                return self._mapping(node, path)
            case SequenceNode(tag=tag) if tag == _SEQUENCE:
                return [
                    self.value_of(item, (*path, str(index)))
                    for index, item in enumerate(node.value)
                ]
            case ScalarNode(tag=tag) if tag == _STRING:
                return node.value
            case ScalarNode(tag=tag) if tag in _KINDS:
                return _scalar(node, path)
        accepted = ", ".join(
            tag.removeprefix(_TAG) for tag in (_MAPPING, _SEQUENCE, _STRING, *_KINDS)
        )
        raise _error(
            node, path, f"the tag {shown(node.tag)} is refused; expected one of {accepted}"
        )

    def _mapping(self, node: MappingNode, path: tuple[str, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):  # could hold an alias of all it stands in
                raise _error(key_node, path, f"a key is a {key_node.id}, no text; expected a name")
            key = self.value_of(key_node, path)
            if not isinstance(key, str):
                raise _error(key_node, path, f"the key {shown(key)} is no text; expected a name")
            if key in result:
                raise _error(key_node, path, f"key {shown(key)} is given twice")
            result[key] = self.value_of(value_node, (*path, key))
        return result


def _scalar(node: ScalarNode, path: tuple[str, ...]) -> Any:
    kind = _KINDS[node.tag]
    if not kind.pattern.fullmatch(node.value):
        raise _error(node, path, f"{shown(node.value)} is no {node.tag.removeprefix(_TAG)}")
    try:
        return kind.convert(node.value)
    except ValueError as error:
        raise _error(node, path, str(error)) from error


def _too_deep() -> str:
    return f"nested deeper than {MAX_DEPTH} levels"


def _error(node: Node, path: tuple[str, ...], problem: str) -> YamlError:
    where = f"{in_path(path)}: " if path else ""
    return YamlError(f"{where}{problem} (line {node.start_mark.line + 1})")
