"""Rooms that serve every network, every data set and every optimizer know none of them by name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.source import SOURCES
from models.architecture import ARCHITECTURES
from optim.registry import ALGORITHMS

_NETWORKS, _SOURCES, _OPTIMIZERS = map(frozenset, (ARCHITECTURES, SOURCES, ALGORITHMS))

# What may not be named where. Kernels state the rules of optimizers, and a room its own.
_STRANGERS = {
    "base": _NETWORKS | _SOURCES | _OPTIMIZERS,
    "kernels": _NETWORKS | _SOURCES,
    "optim": _NETWORKS | _SOURCES,
    "comm": _NETWORKS | _SOURCES | _OPTIMIZERS,
    "models": _SOURCES | _OPTIMIZERS,
    "data": _NETWORKS | _OPTIMIZERS,
    "registry": _NETWORKS | _SOURCES | _OPTIMIZERS,
    "train": _NETWORKS | _SOURCES | _OPTIMIZERS,
    "serving": _NETWORKS | _SOURCES | _OPTIMIZERS,
}


def _names(source: str) -> Iterator[str]:
    """Yields what a module imports, calls things and compares with; text for humans is free."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=imported):
                yield from (part for name in imported for part in name.name.split("."))
            case ast.ImportFrom(module=module, names=imported):
                yield from (module or "").split(".")
                yield from (name.name for name in imported)
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.keyword(arg=str(name)) | ast.Constant(value=str(name)):
                yield name


@pytest.mark.parametrize("room", _STRANGERS)
def test_no_stranger_is_named(room: str) -> None:
    # The sources that the trainers and the gateway are built of, and nothing of tests.
    files = sorted(Path(room).rglob("*.py"))
    assert files
    named = {
        f"{file}: {name}"
        for file in files
        for name in _names(file.read_text())
        if name.lower() in _STRANGERS[room]
    }
    assert not named


def test_a_name_is_found() -> None:
    for source in (
        "from models.vision_transformer.config import x",
        "import data.sources.digits",
        "from data.sources import digits",
        "if optimizer == 'sophia': pass",
        "f(digits=1)",
        "config.adamw",
        "from optim.sophia import Sophia",
        "isinstance(algorithm, Sophia)",
    ):
        found = {name.lower() for name in _names(source)}
        assert found & (_NETWORKS | _SOURCES | _OPTIMIZERS), source
    assert "digits" not in set(_names('"""Text about digits."""'))
