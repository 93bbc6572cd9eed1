"""Compares each folder's deps.bzl with what the Python sources of the folder import, or writes it.

Imports are resolved to labels by what Bazel knows: the sources of all targets (py_targets.py) and
the modules of the locked distributions.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from infra.bazel.py_imports import Import, imports, prefixes
from infra.lint import deps_table
from infra.lint.py_targets import AmbiguousError, Target, owners, path_of, targets

# An environment's name -> a distribution's name -> the packages in it.
Environments = Mapping[str, Mapping[str, list[str]]]


class Need(NamedTuple):
    """A label that a source needs, and the import that shows it."""

    label: str
    found: Import


class UnresolvedError(Exception):
    """No target or distribution has what a source imports; the message names it."""


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


class Folder:
    """One folder's table: as it should be, and what to say where it is not."""

    def __init__(self, name: str, all_targets: Iterable[Target]) -> None:
        self.name = name
        self.file = Path(name, deps_table.FILE)
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
                    Need(deps_table.in_folder(need.label, self.name), need.found)
                    for need in needs(path.read_text(), modules, environments)
                    if self.sources[name] != [need.label]  # its own target
                ]
            except (SyntaxError, ValueError, UnresolvedError) as error:
                problems.append(f"{path}: {error}")
        return found, problems

    def differences(self, found: Mapping[str, list[Need]]) -> Iterator[str]:
        """Yields a sentence for each label that the table lacks or has for nothing."""
        table = deps_table.read(self.file.read_text())
        for name, source_needs in found.items():
            path, target = Path(self.name, name), self.sources[name][0]
            first = {need.label: need.found for need in reversed(source_needs)}
            has = set(table.get(name, []))
            for label in sorted(first.keys() - has, key=deps_table.order):
                shown = f"{path}:{first[label].line}: imports {first[label].candidates[-1]}"
                yield f"{shown}; the deps of {target} lack {label}"
            for label in sorted(has - first.keys(), key=deps_table.order):
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
    tables = deps_table.folders(tracked)
    try:
        modules = owners(all_targets)
    except AmbiguousError as error:
        return [str(error)]
    problems = list(orphans(tracked, tables, all_targets))
    for name in tables:
        folder = Folder(name, all_targets)
        found, unresolved = folder.resolve(modules, environments)
        problems += unresolved
        if fix:
            kept = deps_table.read(folder.file.read_text())
            table = {
                source: sorted({need.label for need in found[source]})
                if source in found
                else kept.get(source, [])
                for source in folder.sources
            }
            text = deps_table.render({source: labels for source, labels in table.items() if labels})
            if text != folder.file.read_text():
                folder.file.write_text(text)
        else:
            problems += folder.differences(found)
    return problems
