"""Checks the style of every file: `./bazelw run //infra/lint`; `-- --fix` mends what it can.

ruff (lint and format), mypy, clang-format, buildifier, hadolint, actionlint and zizmor, all from
locked packages, over the files that git tracks or would track; that the deps of Python targets are
what their sources import (py_deps.py); and that links of pages lead somewhere (links.py). Prints
nothing of a check that passes but its name.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import clang_format

from infra.lint import deps_table, links, py_deps, py_targets

_CONFIG = Path("infra/lint")
_WORKFLOWS, _WORKFLOW = ".github/workflows/", (".yaml", ".yml")

# Where the locked packages have their compiled programs.
_PROGRAMS = Path(clang_format.__file__).parents[1] / "bin"

# The rules that this Bazel carries itself, which newer ones load from elsewhere.
_NATIVE = (
    *("cc-binary", "cc-common", "cc-info", "cc-library", "cc-test"),
    *("java", "proto", "py", "sh-binary"),
)


class Check(NamedTuple):
    """One tool: which files it reads, and how it is run to check and to mend them."""

    name: str
    suffixes: tuple[str, ...]
    check: Sequence[str | Path]
    fix: Sequence[str | Path]
    tests: bool = True
    below: str = ""

    def files(self, tracked: Sequence[str]) -> list[str]:
        """Returns those files that it is for."""
        return [
            path
            for path in tracked
            if path.endswith(self.suffixes)
            and path.startswith(self.below)
            and (self.tests or not path.endswith("_test.py"))
        ]


def _checks(buildifier: Path, actionlint: Sequence[Path]) -> Iterator[Check]:
    ruff = (sys.executable, "-m", "ruff")
    settings = ("--config", _CONFIG / "ruff.toml", "--no-cache", "--quiet")
    yield Check(
        "ruff check", (".py",), (*ruff, "check", *settings), (*ruff, "check", "--fix", *settings)
    )
    yield Check(
        "ruff format",
        (".py",),
        (*ruff, "format", "--diff", *settings),
        (*ruff, "format", *settings),
    )

    hadolint, zizmor = (_PROGRAMS / name for name in ("hadolint", "zizmor"))
    yield Check("hadolint", ("Dockerfile",), (hadolint,), (hadolint,))
    # Of the two that read workflows, one finds mistakes, the other holes.
    command: tuple[str | Path, ...] = ("node", *actionlint)
    yield Check("actionlint", _WORKFLOW, command, command, below=_WORKFLOWS)
    audit = (zizmor, "--offline", "--no-progress", "--quiet")
    yield Check("zizmor", _WORKFLOW, audit, audit, below=_WORKFLOWS)

    formatter = Path(clang_format.get_executable("clang-format"))
    yield Check(
        "clang-format",
        (".cc", ".cu", ".h"),
        (formatter, "--dry-run", "--Werror"),
        (formatter, "-i"),
    )

    warnings = "--warnings=-unnamed-macro," + ",".join(f"-native-{rule}" for rule in _NATIVE)
    starlark = ("BUILD", "WORKSPACE", ".BUILD", ".bzl")
    yield Check(
        "buildifier",
        starlark,
        (buildifier, "--mode=check", "--lint=warn", warnings),
        (buildifier, "--mode=fix", "--lint=fix", warnings),
    )

    mypy = (
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        _CONFIG / "mypy.ini",
        "--no-error-summary",
    )
    yield Check("mypy", (".py",), mypy, mypy, tests=False)


def _tracked() -> list[str]:
    """Returns every file of the working tree that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for path in listed.stdout.splitlines() if os.path.exists(path)]


def _deps_problems(environments: Sequence[Path], fix: bool) -> list[str]:
    """Checks or writes the tables of deps; returns a sentence for each thing that is wrong."""
    tracked = _tracked()
    if fix:
        deps_table.make_loadable(deps_table.folders(tracked))
    asked = subprocess.run(
        ["./bazelw", *py_targets.QUERY], capture_output=True, text=True, check=False
    )
    broken = [line for line in asked.stderr.splitlines() if line.startswith("ERROR:")]
    if broken or not asked.stdout:
        return broken or [asked.stderr]
    modules = {path.parent.name: json.loads(path.read_text()) for path in environments}
    return py_deps.check(tracked, asked.stdout, modules, fix)


def _verdict(passed: bool) -> str:
    return f"{'ok' if passed else 'FAILED':6}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fix", action="store_true", help="mend what can be mended")
    for tool in ("buildifier", "actionlint", "actionlint-package"):
        parser.add_argument(f"--{tool}", type=Path, required=True)
    parser.add_argument(
        "--environment", type=Path, action="append", required=True, help="a modules.json"
    )
    options = parser.parse_args()
    buildifier = options.buildifier.resolve()
    actionlint = [options.actionlint.resolve(), options.actionlint_package.resolve()]
    environments = [path.absolute() for path in options.environment]
    os.chdir(os.environ["BUILD_WORKSPACE_DIRECTORY"])

    failed = []
    if problems := _deps_problems(environments, options.fix):
        failed.append("deps")
        print("\n".join(problems))
    print(f"{_verdict(not problems)} deps of Python targets", flush=True)
    tracked = _tracked()
    if dead := links.dead_links(tracked, lambda path: Path(path).read_text()):
        failed.append("links")
        print("\n".join(dead))
    print(f"{_verdict(not dead)} links of pages", flush=True)
    for check in _checks(buildifier, actionlint):
        files = check.files(tracked)
        command = [*(check.fix if options.fix else check.check), *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            failed.append(check.name)
            print(done.stdout + done.stderr, end="")
        print(f"{_verdict(not done.returncode)} {check.name} ({len(files)} files)", flush=True)
    if failed and not options.fix:
        print(
            "error: see above; `./bazelw run //infra/lint -- --fix` mends most of it",
            file=sys.stderr,
        )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
