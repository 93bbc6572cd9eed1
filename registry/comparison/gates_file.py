"""Files of gates."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from registry.comparison.gates import Gate, GateError, parse_gate

KEY = "gates"
_EXAMPLE = "expected 'gates:' and a list below it, such as '  - accuracy >= 0.98'"

# Some hundred gates with what is said of them.
MAX_FILE_BYTES = 2**16


def read_gates(path: Path) -> list[Gate]:
    """Reads a file of gates.

    Raises:
        GateError: It cannot be read, or is not such a file; the message says in which line.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise GateError(f"cannot read gates from {path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise GateError(f"{path}: expected a file of gates of at most {MAX_FILE_BYTES:,} bytes")
    try:
        root = yaml.compose(content.decode("utf-8"), yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise GateError(f"{path}: expected UTF-8: {error}") from error
    except yaml.YAMLError as error:
        raise GateError(f"{path} is not YAML: {_in_one_line(error)}; {_EXAMPLE}") from error
    except RecursionError as error:
        raise GateError(f"{path}: brackets in brackets; {_EXAMPLE}") from error
    return [_gate(path, node) for node in _items(path, root)]


def _items(path: Path, root: yaml.Node | None) -> Sequence[yaml.Node]:
    if not isinstance(root, yaml.MappingNode) or not root.value:
        raise GateError(f"{path} has no gates; {_EXAMPLE}")
    keys = [key.value if isinstance(key, yaml.ScalarNode) else None for key, _ in root.value]
    for (node, _), key in zip(root.value, keys, strict=True):
        if key != KEY:
            raise GateError(f"{_line(path, node)}: unknown key {key!r:.60}; {_EXAMPLE}")
    if len(keys) > 1:
        raise GateError(f"{_line(path, root.value[1][0])}: {KEY!r} comes a second time; keep one")
    ((_, items),) = root.value
    if not isinstance(items, yaml.SequenceNode) or not items.value:
        raise GateError(f"{_line(path, items)}: no list of gates; {_EXAMPLE}")
    return items.value


def _gate(path: Path, node: yaml.Node) -> Gate:
    if not isinstance(node, yaml.ScalarNode):
        raise GateError(f"{_line(path, node)}: a gate is one line of text; {_EXAMPLE}")
    try:
        return parse_gate(node.value)
    except GateError as error:
        raise GateError(f"{_line(path, node)}: {error}") from error


def _line(path: Path, node: yaml.Node) -> str:
    return f"{path}, line {node.start_mark.line + 1}"


def _in_one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
