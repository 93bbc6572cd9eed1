"""Checks that a target imports only its own modules and those of its direct deps.

Run by py_imports.bzl for one target at a time.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Import(NamedTuple):
    """One name that a source imports, and where."""

    line: int
    # The module, and for `from a import b` also `a.b`, which may be one.
    candidates: tuple[str, ...]


def imports(source: str) -> Iterator[Import]:
    """Yields every import in a source, those inside functions too.

    Raises:
      SyntaxError: If the source is not Python.
      ValueError: On a relative import, which this workspace does not use.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, (alias.name,))
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(
                    f"line {node.lineno}: relative import; write it from the root of the workspace"
                )
            assert node.module is not None
            for alias in node.names:
                yield Import(node.lineno, (f"{node.module}.{alias.name}", node.module))


def prefixes(module: str) -> Iterator[str]:
    """Yields a dotted name and the packages that it is in: `a.b.c`, `a.b`, `a`."""
    parts = module.split(".")
    return (".".join(parts[:length]) for length in range(len(parts), 0, -1))


def allowed(found: Import, modules: frozenset[str], packages: frozenset[str]) -> bool:
    """Whether an import is covered.

    Args:
      found: The import.
      modules: Names that must match as a whole: modules of this workspace.
      packages: Names that bring everything below them: packages of wheels.
    """
    for candidate in found.candidates:
        if candidate.split(".")[0] in sys.stdlib_module_names or candidate in modules:
            return True
        if any(prefix in packages for prefix in prefixes(candidate)):
            return True
    return False


def owner(found: Import, environments: dict[str, dict[str, list[str]]]) -> str | None:
    """Returns the label of the distribution that has a module, if one has."""
    for environment, distributions in environments.items():
        for candidate in found.candidates:
            for prefix in prefixes(candidate):
                for name, packages in distributions.items():
                    if prefix in packages:
                        return f"@{environment}//:{name}"
    return None


def check(
    label: str,
    sources: Iterable[Path],
    modules: frozenset[str],
    packages: frozenset[str],
    environments: dict[str, dict[str, list[str]]],
) -> Iterator[str]:
    """Yields a sentence for each import that no direct dep of the target covers."""
    for path in sources:
        try:
            undeclared = [
                found
                for found in imports(path.read_text())
                if not allowed(found, modules, packages)
            ]
        except (SyntaxError, ValueError) as error:
            yield f"{path}: {error}"
            continue
        for found in undeclared:
            target = owner(found, environments) or "the target that has this module"
            name = found.candidates[-1]
            yield f"{path}:{found.line}: imports {name}; add {target} to the deps of {label}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--environment", type=Path, action="append", required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()

    manifest = json.loads(options.manifest.read_text())
    environments = {path.parent.name: json.loads(path.read_text()) for path in options.environment}
    packages = frozenset(
        package
        for environment, name in manifest["distributions"]
        for package in environments[environment][name]
    )
    problems = sorted(
        set(
            check(
                manifest["label"],
                [Path(source) for source in manifest["sources"]],
                frozenset(manifest["modules"]),
                packages,
                environments,
            )
        )
    )
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print("hint: `./bazelw run //infra/lint -- --fix` writes deps", file=sys.stderr)
    if not problems:
        options.output.write_text("")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
