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
    "evaluation": _NETWORKS | _SOURCES | _OPTIMIZERS,
}


# Where the files of those in a table lie; elsewhere a word such as "text" is a word.
_HOMES = ("models", "data.sources", "optim")


def _names(source: str) -> Iterator[str]:
    """Yields what a module may name of the tables: in imports, in attributes, as a whole string."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=imported):
                for name in imported:
                    yield from _below_home(name.name)
            case ast.ImportFrom(module=str(module), names=imported):
                for name in imported:
                    yield from _below_home(f"{module}.{name.name}")
            case ast.Attribute(attr=name) | ast.Constant(value=str(name)):
                yield name


def _below_home(module: str) -> Iterator[str]:
    for home in _HOMES:
        if module.startswith(f"{home}."):
            yield from module.removeprefix(f"{home}.").split(".")


@pytest.mark.parametrize("room", _STRANGERS)
def test_no_stranger_is_named(room: str) -> None:
    # The sources that the programs are built of, and nothing of tests.
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
        "from models.mlp.config import x",
        "import data.sources.digits",
        "from data.sources import digits",
        "if optimizer == 'sophia': pass",
        "config.adamw",
        "from optim.sophia import Sophia",
    ):
        found = {name.lower() for name in _names(source)}
        assert found & (_NETWORKS | _SOURCES | _OPTIMIZERS), source
    for source in ('"""Text about digits."""', "def f(digits): return digits", "import digits.x"):
        assert "digits" not in set(_names(source))
