"""A folder's deps.bzl: which labels each of its Python sources imports.

A folder has one when its BUILD file loads it; the macros of infra/bazel/python.bzl read it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

FILE = "deps.bzl"

_DOC = (
    "What each Python source of this folder imports; "
    "`./bazelw run //infra/lint -- --fix` writes it."
)

# A source's file name -> the labels that it imports.
Table = Mapping[str, list[str]]


def in_folder(label: str, folder: str) -> str:
    """Writes a label as a BUILD file of a folder does: `//a:b` in a is `:b`."""
    prefix = f"//{folder}:"
    return label.removeprefix(prefix[:-1]) if label.startswith(prefix) else label


def order(label: str) -> tuple[int, str]:
    """Sorts as buildifier does: this folder, this workspace, others."""
    return (0 if label[0] == ":" else 1 if label[0] == "/" else 2, label.replace(":", "!"))


def render(table: Table) -> str:
    """Writes a deps.bzl, a line for each source however long: nobody edits it."""
    entries = []
    for name in sorted(table):
        labels = [f'"{label}"' for label in sorted(table[name], key=order)]
        entries.append(f'    "{name}": [{", ".join(labels)}],\n')
    body = "\n" + "".join(entries) if entries else ""
    return f'"""{_DOC}"""\n\nDEPS = {{{body}}}\n'


def read(text: str) -> Table:
    """Reads a deps.bzl; one that is not whole, as after a conflict, reads as empty."""
    try:
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Assign):
                table: Table = ast.literal_eval(statement.value)
                return table
    except (SyntaxError, ValueError):
        pass
    return {}


def _loads_table(build: Path) -> bool:
    """Whether a BUILD file loads a table."""
    return f'load(":{FILE}"' in build.read_text()


def folders(tracked: Iterable[str]) -> list[str]:
    """Returns the folders that have a table, "" for the workspace's root."""
    builds = [Path(path) for path in tracked if PurePosixPath(path).name == "BUILD"]
    return ["" if str(p.parent) == "." else str(p.parent) for p in builds if _loads_table(p)]


def make_loadable(tables: Iterable[str]) -> None:
    """Puts an empty table where there is none or none that Bazel can load."""
    for folder in tables:
        file = Path(folder, FILE)
        if not file.exists() or not read(file.read_text()):
            file.write_text(render({}))
