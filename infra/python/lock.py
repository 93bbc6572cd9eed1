"""Regenerates the locks beside this file: `./bazelw run //infra/python:lock [-- NAME...]`.

For each `NAME.in` it resolves the requirements with pip, tries the result in a temporary folder
with the very script that the workspace will use, and only then replaces `NAME.lock`. A lock names
versions and SHA-256 hashes and no place to download from. Where the configured package indexes and
pip's own default hold different files of one version (torch's CPU build and its CUDA build), both
hashes are kept: either file is accepted.

A `NAME.in` with lines `-c OTHER.lock` adds to what those lock: it agrees with their versions, and
`NAME.lock` has only what they have not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from base.files import write_file

# An environment for pip in which no setting of the user counts, so that it asks its default index.
_NO_SETTINGS = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_FIND_LINKS": "",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_INDEX_URL": "",
}

# Of pip: what else is installed, in versions that count here too.
_CONSTRAINTS = "-c "

_HEADER = "# Written by `./bazelw run //infra/python:lock` from {source}; edit that file instead.\n"


class LockError(Exception):
    """The requirements cannot be locked; the message says why."""


@dataclass
class Pin:
    """One distribution at one version, and the SHA-256 of every file of it that is accepted."""

    name: str
    version: str
    hashes: set[str] = field(default_factory=set)

    def requirement(self) -> str:
        return f"{self.name}=={self.version}"

    def locked(self) -> str:
        return " \\\n".join(
            [self.requirement(), *(f"    --hash=sha256:{digest}" for digest in sorted(self.hashes))]
        )


Pins = dict[str, Pin]


def normalized(distribution: str) -> str:
    """Returns the canonical name of a distribution: `PyYAML` -> `pyyaml`."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def read_input(source: Path) -> tuple[list[str], list[Path]]:
    """Returns the requirements of a `NAME.in`, and the locks that it adds to."""
    lines = [line for line in source.read_text().splitlines() if line and not line.startswith("#")]
    locks = [line for line in lines if line.startswith(_CONSTRAINTS)]
    return (
        [line for line in lines if line not in locks],
        [source.parent / line.removeprefix(_CONSTRAINTS).strip() for line in locks],
    )


def pinned(lock: str) -> list[str]:
    """Returns the `name==version` of each distribution in the text of a lock."""
    return re.findall(r"^[\w.-]+==[^\s\\]+", lock, flags=re.MULTILINE)


def resolve(python: Path, requirements: Iterable[str], *options: str, **environment: str) -> Pins:
    """Asks pip what it would install, without installing it.

    Raises:
      LockError: With pip's own words, when there is no solution.
    """
    with tempfile.TemporaryDirectory(prefix="lock-") as folder:
        report = Path(folder) / "report.json"
        command = [
            *(
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-input",
            ),
            *("--dry-run", "--ignore-installed", "--report", report, *options, *requirements),
        ]
        done = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LockError(done.stderr.strip())
        installs = json.loads(report.read_text())["install"]
    pins = {}
    for item in installs:
        name = normalized(item["metadata"]["name"])
        version = item["metadata"]["version"].split("+")[0]
        pins[name] = Pin(name, version, {item["download_info"]["archive_info"]["hashes"]["sha256"]})
    return pins


def _merge_default_index(python: Path, pins: Pins, sources: Sequence[str]) -> None:
    """Adds the hashes of the same versions as pip's default index has them."""
    wheels = [pin.requirement() for pin in pins.values() if pin.name not in sources]
    for name, pin in resolve(
        python, wheels, "--no-deps", "--only-binary=:all:", **_NO_SETTINGS
    ).items():
        pins[name].hashes |= pin.hashes


def _render(pins: Pins, source: str) -> str:
    return _HEADER.format(source=source) + "".join(
        f"{pins[name].locked()}\n" for name in sorted(pins)
    )


class Locker:
    """Locks the files of one folder with one installer script and one pip."""

    def __init__(
        self, folder: Path, installer: Path, reserved: str, sources: Sequence[str], work: Path
    ) -> None:
        self._folder = folder
        self._installer = installer
        self._reserved = reserved
        self._sources = sources
        self._work = work
        subprocess.run([sys.executable, "-I", "-m", "venv", str(work / "pip")], check=True)
        self._python = work / "pip" / "bin" / "python"

    def lock(self, name: str) -> None:
        """Resolves, tries and writes `NAME.lock`, and with torch in it `NAME_torch_cuda.lock`."""
        source = self._folder / f"{name}.in"
        wanted, locks = read_input(source)
        others = [pin for lock in locks for pin in pinned(lock.read_text())]
        built = [
            line for line in wanted if normalized(re.split(r"[=<>\[ ]", line)[0]) in self._sources
        ]
        pins = resolve(
            self._python,
            [line for line in wanted if line not in built],
            "--only-binary=:all:",
            *self._constraints(name, others),
        )
        for other in others:
            pins.pop(normalized(other.partition("==")[0]), None)
        _merge_default_index(self._python, pins, self._sources)
        if built:
            pins |= self._resolve_built(name, built, pins)
        self._try(f"{name}-whole", _render(pins, source.name))
        if "torch" in pins:
            cuda = resolve(
                self._python, [pins["torch"].requirement()], "--only-binary=:all:", **_NO_SETTINGS
            )
            extra = {key: pin for key, pin in cuda.items() if key not in pins}
            self._write(f"{name}_torch_cuda", _render(extra, f"{source.name} (torch)"))
        self._write(name, _render(pins, source.name))
        print(f"{source.with_suffix('.lock').name}: {len(pins)} distributions")

    def _write(self, name: str, lock: str) -> None:
        write_file(self._folder / f"{name}.lock", lock.encode())

    def _resolve_built(self, name: str, built: Sequence[str], pins: Pins) -> Pins:
        """Resolves source distributions, which must be built beside the wheels to be asked."""
        site_packages = self._try(f"{name}-wheels", _render(pins, name))
        constraints = self._constraints(name, [pin.requirement() for pin in pins.values()])
        found = resolve(
            self._python,
            built,
            "--no-build-isolation",
            *constraints,
            PYTHONPATH=str(site_packages),
        )
        new = {key: pin for key, pin in found.items() if key not in pins}
        _merge_default_index(self._python, new, self._sources)
        return new

    def _constraints(self, name: str, requirements: Iterable[str]) -> tuple[str, str]:
        """Pip's option for them. They have no hashes, with which it would want some of all."""
        file = self._work / f"{name}-constraints.txt"
        file.write_text("".join(f"{requirement}\n" for requirement in requirements))
        return "--constraint", str(file)

    def _try(self, name: str, lock: str) -> Path:
        """Installs a lock in a temporary folder, with every check that the workspace will make."""
        folder = self._work / name
        folder.mkdir()
        (folder / "lock.txt").write_text(lock)
        done = subprocess.run(
            [
                *(sys.executable, "-I", str(self._installer), "--lock", "lock.txt"),
                *("--reserved", self._reserved, "--source-distributions", ",".join(self._sources)),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LockError((done.stdout + done.stderr).strip())
        return folder / "site-packages"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="which NAME.in to lock; all by default")
    parser.add_argument("--installer", type=Path, required=True)
    parser.add_argument("--reserved", required=True)
    parser.add_argument("--source-distributions", required=True)
    options = parser.parse_args()
    folder = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", ".")) / "infra" / "python"
    # Those that add to others come last.
    known = sorted(
        (path.stem for path in folder.glob("*.in")),
        key=lambda name: (bool(read_input(folder / f"{name}.in")[1]), name),
    )
    unknown = set(options.names) - set(known)
    if unknown:
        parser.error(
            f"no such requirements: {', '.join(sorted(unknown))}; there are: {', '.join(known)}"
        )
    sources = [normalized(name) for name in options.source_distributions.split(",")]
    with tempfile.TemporaryDirectory(prefix="lock-") as work:
        locker = Locker(folder, options.installer.resolve(), options.reserved, sources, Path(work))
        for name in options.names or known:
            try:
                locker.lock(name)
            except LockError as error:
                sys.exit(f"error: {name}.in cannot be locked; {name}.lock is unchanged:\n{error}")


if __name__ == "__main__":
    main()
