"""Keeps each folder's deps.bzl, which says what every Python source of the folder imports.

A source's imports are resolved to labels by what Bazel knows: the sources of all targets, by a
query, and the modules of the locked distributions. A folder takes part when its BUILD file loads
`:deps.bzl`; the macros of infra/bazel/python.bzl read the table.
"""

from __future__ import annotations

import ast
import collections
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

from infra.bazel.py_imports import Import, imports, prefixes

# What Bazel is asked for.
QUERY = (
    *("query", "--noshow_progress", "--noimplicit_deps", "--keep_going", "--output=xml"),
    'kind("py_.* rule", //...)',
)

FILE = "deps.bzl"

_WIDTH = 120  # of a line of a table; a longer entry gets a line for each label

# The module belongs to the first of these kinds of targets that has it. Tests are not imported.
_OWNERS = ("py_library", "py_binary", "py_proto_library")

# Where .proto files lie by their package.
_PROTO_ROOT = "proto/"

# A source's file name -> the labels that it imports.
Table = Mapping[str, list[str]]

# An environment's name -> a distribution's name -> the packages in it.
Environments = Mapping[str, Mapping[str, list[str]]]


class Target(NamedTuple):
    """One Python target as a query shows it, all labels absolute."""

    label: str
    rule: str
    srcs: tuple[str, ...]
    data: tuple[str, ...]


class Need(NamedTuple):
    """A label that a source needs, and the import that shows it."""

    label: str
    found: Import


class UnresolvedError(Exception):
    """No target or distribution has what a source imports; the message names it."""


def targets(xml: str) -> list[Target]:
    """Reads the targets from the answer to QUERY."""
    # Bazel announces XML 1.1, which Python's parser does not know.
    root = ElementTree.fromstring(xml.partition("?>")[2])

    def labels(rule: ElementTree.Element, attribute: str) -> tuple[str, ...]:
        values = rule.iterfind(f"list[@name='{attribute}']/label")
        return tuple(value.attrib["value"] for value in values)

    return [
        Target(
            rule.attrib["name"], rule.attrib["class"], labels(rule, "srcs"), labels(rule, "data")
        )
        for rule in root.iter("rule")
    ]


def path_of(label: str) -> str:
    """Returns the path below the workspace of a file's label: `//a/b:c.py` -> `a/b/c.py`."""
    folder, _, name = label.removeprefix("//").partition(":")
    return str(PurePosixPath(folder, name))


def _modules_of(target: Target) -> Iterator[str]:
    """Yields the dotted names of what a target's own files make importable."""
    if target.rule == "py_proto_library":
        for label in target.srcs:
            stem = path_of(label).removeprefix(_PROTO_ROOT).removesuffix(".proto")
            yield from (stem.replace("/", ".") + suffix for suffix in ("_pb2", "_pb2_grpc"))
        return
    files = [*target.srcs, *(label for label in target.data if label.endswith(".so"))]
    for label in files:
        path = PurePosixPath(path_of(label))
        yield str(path.with_suffix("")).replace("/", ".")


def owners(all_targets: Iterable[Target]) -> dict[str, str]:
    """Returns the label of the target that has each module of the workspace.

    Raises:
      UnresolvedError: If two libraries have the same module, so that an import could mean either.
    """
    found: dict[str, Target] = {}
    candidates = [target for target in all_targets if target.rule in _OWNERS]
    for target in sorted(candidates, key=lambda target: _OWNERS.index(target.rule)):
        for module in _modules_of(target):
            first = found.setdefault(module, target)
            if first is not target and first.rule == target.rule:
                raise UnresolvedError(f"{module} is in both {first.label} and {target.label}")
    return {module: target.label for module, target in found.items()}


def _distribution(found: Import, distributions: Mapping[str, list[str]]) -> str | None:
    """Returns the distribution of an environment that has what is imported."""
    names = {prefix for candidate in found.candidates for prefix in prefixes(candidate)}
    return next((name for name, packages in distributions.items() if names & set(packages)), None)


def needs(source: str, modules: Mapping[str, str], environments: Environments) -> list[Need]:
    """Resolves the imports of a source.

    A process has one environment of locked distributions. It is the first in which all is found
    that the source imports from outside.

    Args:
      source: The text.
      modules: The label of each module of the workspace.
      environments: The locked environments, the usual one first.

    Raises:
      SyntaxError: If the source is not Python.
      ValueError: On a relative import.
      UnresolvedError: If nothing has what is imported.
    """
    local: list[Need] = []
    outside: list[Import] = []
    for found in imports(source):
        if found.candidates[-1].split(".")[0] in sys.stdlib_module_names:
            continue
        label = next((modules[name] for name in found.candidates if name in modules), None)
        if label:
            local.append(Need(label, found))
        else:
            outside.append(found)

    unresolved = outside
    for environment, distributions in environments.items():
        names = {found: _distribution(found, distributions) for found in outside}
        missing = [found for found, name in names.items() if name is None]
        if not missing:
            return local + [Need(f"@{environment}//:{names[found]}", found) for found in outside]
        unresolved = min(unresolved, missing, key=len)
    if unresolved:
        first = unresolved[0]
        name = first.candidates[-1]
        raise UnresolvedError(f"line {first.line}: imports {name}, which no target has")
    return local


def in_folder(label: str, folder: str) -> str:
    """Writes a label as a BUILD file of a folder does: `//a:b` in a is `:b`."""
    prefix = f"//{folder}:"
    return label.removeprefix(prefix[:-1]) if label.startswith(prefix) else label


def _order(label: str) -> tuple[int, str]:
    """Sorts as buildifier does: this folder, this workspace, others."""
    return (0 if label[0] == ":" else 1 if label[0] == "/" else 2, label.replace(":", "!"))


def render(table: Table) -> str:
    """Writes a deps.bzl."""
    lines = [
        '"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` '
        'writes it."""',
        "",
        "DEPS = {",
    ]
    for name in sorted(table):
        labels = [f'"{label}"' for label in sorted(table[name], key=_order)]
        line = f'    "{name}": [{", ".join(labels)}],'
        if len(line) > _WIDTH:
            line = "\n".join(
                [f'    "{name}": [', *(f"        {label}," for label in labels), "    ],"]
            )
        lines.append(line)
    return "\n".join([*lines, "}"]) + "\n" if table else "\n".join(lines) + "}\n"


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


def takes_part(build: Path) -> bool:
    """Whether a BUILD file loads a table."""
    return f'load(":{FILE}"' in build.read_text()


def folders(tracked: Iterable[str]) -> list[str]:
    """Returns the folders that have a table, "" for the workspace's root."""
    builds = [Path(path) for path in tracked if PurePosixPath(path).name == "BUILD"]
    return ["" if str(p.parent) == "." else str(p.parent) for p in builds if takes_part(p)]


def make_loadable(tables: Iterable[str]) -> None:
    """Puts an empty table where there is none or none that Bazel can load."""
    for folder in tables:
        file = Path(folder, FILE)
        if not file.exists() or not read(file.read_text()):
            file.write_text(render({}))


class Folder:
    """One folder's table: as it should be, and what to say where it is not."""

    def __init__(self, name: str, all_targets: Iterable[Target]) -> None:
        self.name = name
        self.file = Path(name, FILE)
        # Each source and the targets that have it.
        self.sources: dict[str, list[str]] = collections.defaultdict(list)
        prefix = f"//{name}:"
        for target in sorted(all_targets):
            if target.label.startswith(prefix):
                for label in target.srcs:
                    if label.startswith(prefix) and label.endswith(".py"):
                        self.sources[label.removeprefix(prefix)].append(target.label)

    def resolve(
        self, modules: Mapping[str, str], environments: Environments
    ) -> tuple[dict[str, list[Need]], list[str]]:
        """Returns what each source needs, and a sentence for each that cannot be resolved."""
        found: dict[str, list[Need]] = {}
        problems = []
        for name in sorted(self.sources):
            path = Path(self.name, name)
            if not path.exists():
                problems.append(
                    f"{path}: {self.sources[name][0]} has it in srcs, but there is none"
                )
                continue
            try:
                found[name] = [
                    Need(in_folder(need.label, self.name), need.found)
                    for need in needs(path.read_text(), modules, environments)
                    if self.sources[name] != [need.label]  # its own target
                ]
            except (SyntaxError, ValueError, UnresolvedError) as error:
                problems.append(f"{path}: {error}")
        return found, problems

    def differences(self, found: Mapping[str, list[Need]]) -> Iterator[str]:
        """Yields a sentence for each label that the table lacks or has for nothing."""
        table = read(self.file.read_text())
        for name, source_needs in found.items():
            path, target = Path(self.name, name), self.sources[name][0]
            first = {need.label: need.found for need in reversed(source_needs)}
            has = set(table.get(name, []))
            for label in sorted(first.keys() - has, key=_order):
                shown = f"{path}:{first[label].line}: imports {first[label].candidates[-1]}"
                yield f"{shown}; the deps of {target} lack {label}"
            for label in sorted(has - first.keys(), key=_order):
                yield f"{path}: does not import {label}, which is among the deps of {target}"
        for name in sorted(table.keys() - self.sources.keys()):
            yield f"{self.file}: no target of the folder has {name}"


def orphans(
    tracked: Iterable[str], tables: Iterable[str], known: Iterable[Target]
) -> Iterator[str]:
    """Yields a sentence for each Python file of these folders that is in no target."""
    used = {path_of(label) for target in known for label in target.srcs + target.data}
    inside = set(tables)
    for path in tracked:
        folder, _, _ = path.rpartition("/")
        if path.endswith(".py") and folder in inside and path not in used:
            yield f"{path}: is in no target of {folder}/BUILD"


def check(tracked: list[str], xml: str, environments: Environments, fix: bool) -> list[str]:
    """Compares all tables with the sources, or writes them.

    Args:
      tracked: The files of the workspace, which is the working directory.
      xml: Bazel's answer to QUERY.
      environments: The locked environments, the usual one first.
      fix: Whether to write the tables.

    Returns:
      A sentence for each thing that is wrong and was not mended.
    """
    all_targets = targets(xml)
    tables = folders(tracked)
    try:
        modules = owners(all_targets)
    except UnresolvedError as error:
        return [str(error)]
    problems = list(orphans(tracked, tables, all_targets))
    for name in tables:
        folder = Folder(name, all_targets)
        found, unresolved = folder.resolve(modules, environments)
        problems += unresolved
        if fix:
            kept = read(folder.file.read_text())
            table = {
                source: sorted({need.label for need in found[source]})
                if source in found
                else kept.get(source, [])
                for source in folder.sources
            }
            text = render({source: labels for source, labels in table.items() if labels})
            if text != folder.file.read_text():
                folder.file.write_text(text)
        else:
            problems += folder.differences(found)
    return problems
