"""Packages of Debian as files, by locks: names, versions and SHA-256 hashes, no places.

Run by debian_repository.bzl in the new repository's folder, and by //infra/images:lock to write the
locks. apt looks for packages wherever the machine's own sources say and checks Debian's signatures;
it keeps what it knows in a folder of its own here, so that neither root nor the state of the
machine counts. Needs nothing but the standard library.

Debian's mirrors drop a version as soon as a security update replaces it. A build that then failed
would fail for everybody on the day of the update, so the successor, which apt has verified by
Debian's signature, is taken in its place with a warning, unless the repository is strict.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# For which the locked packages are.
_SUITE = "bookworm"
_ARCHITECTURE = "amd64"

_LINE = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.-]+) (?P<version>\S+) sha256:(?P<digest>[0-9a-f]{64})"
)
_PLANNED = re.compile(
    r"^'\S+/pool/\S+' (?P<name>[a-z0-9][a-z0-9+.-]+)_(?P<version>[^_]+)_\w+\.deb "
)
_GONE = re.compile(r"^E: (?:Version '\S+' for|Unable to locate package) '?(?P<name>[a-z0-9+.-]+)")

_PACKAGE = 'package(default_visibility = ["//visibility:public"])\n'
_GROUP = """
filegroup(
    name = "{name}",
    srcs = [
{files}
    ],
)
"""


class DebianError(Exception):
    """The packages are not to be had; the message says why."""


class _AptError(DebianError):
    """apt failed; `stderr` is what it said."""

    def __init__(self, command: str, stderr: str) -> None:
        errors = [line for line in stderr.splitlines() if line.startswith("E: ")]
        super().__init__(f"apt-get {command} failed: " + "; ".join(errors[-3:] or [stderr.strip()]))
        self.stderr = stderr


class Package(NamedTuple):
    """A package at one version, with the SHA-256 of its file in hexadecimal."""

    name: str
    version: str
    digest: str

    def line(self) -> str:
        """Returns it as the lock has it."""
        return f"{self.name} {self.version} sha256:{self.digest}"


def parse_lock(text: str) -> list[Package]:
    """Reads a lock.

    Raises:
        DebianError: A line is none of a lock.
    """
    packages = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise DebianError(
                f"line {number} of the lock is {line!r}; expected NAME VERSION sha256:DIGEST"
            )
        packages.append(Package(**match.groupdict()))
    return packages


class Apt:
    """apt with its state below a folder, in which nothing is installed.

    Args:
        folder: Is made, or used again.

    Raises:
        DebianError: There is no apt, or the machine is not the Debian of the lock.
    """

    def __init__(self, folder: Path) -> None:
        _check_machine()
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        status = folder / "status"
        status.touch()
        self._options = [
            f"-oDir::State={folder}",
            f"-oDir::State::lists={folder / 'lists'}",
            f"-oDir::State::status={status}",
            f"-oDir::Cache={folder / 'cache'}",
            f"-oAPT::Architecture={_ARCHITECTURE}",
            # Whoever may not write below the folder would be asked to download into it.
            "-oAPT::Sandbox::User=root",
            "-qq",
        ]
        self._folder = folder

    def update(self) -> None:
        """Learns what there is."""
        self._run("update")

    def resolve(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Returns names and versions of packages and all that they need on an empty machine."""
        told = self._run("install", "--print-uris", "--yes", "--no-install-recommends", *names)
        planned = map(_PLANNED.match, told.splitlines())
        return sorted((one["name"], _unquoted(one["version"])) for one in planned if one)

    def missing(self, packages: Sequence[tuple[str, str]]) -> set[str]:
        """Returns the names of those of which that version is not to be had."""
        try:
            self._run("download", "--print-uris", *_specified(packages))
        except _AptError as error:
            lines = error.stderr.splitlines()
            gone = {match["name"] for match in map(_GONE.match, lines) if match}
            if gone:
                return gone
            raise
        return set()

    def newest(self, name: str) -> str:
        """Returns the newest version of a package."""
        told = self._run("download", "--print-uris", name)
        match = _PLANNED.match(told)
        if not match:
            raise DebianError(f"apt knows no package {name}")
        return _unquoted(match["version"])

    def download(self, packages: Sequence[tuple[str, str]], folder: Path) -> dict[str, Path]:
        """Puts the packages' files into a folder, checked by apt; returns them by name."""
        before = set(folder.glob("*.deb"))
        self._run("download", *_specified(packages), folder=folder)
        files = sorted(set(folder.glob("*.deb")) - before)
        return {file.name.partition("_")[0]: file for file in files}

    def _run(self, *command: str, folder: Path | None = None) -> str:
        done = subprocess.run(
            ["apt-get", *self._options, *command],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder or self._folder,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        )
        if done.returncode:
            raise _AptError(command[0], done.stderr)
        return done.stdout


def fetch(packages: Sequence[Package], apt: Apt, folder: Path, *, strict: bool) -> list[str]:
    """Puts the files of locked packages into a folder, as NAME.deb.

    Args:
        packages: The lock.
        apt: Where they come from; it has been updated.
        folder: Where they go.
        strict: Whether a version that Debian has replaced is an error.

    Returns:
        What was taken in place of what is locked: "NAME: VERSION replaces VERSION".

    Raises:
        DebianError: A file is not to be had, or not the locked one.
    """
    gone = apt.missing([package[:2] for package in packages])
    wanted = {
        package.name: apt.newest(package.name) if package.name in gone else package.version
        for package in packages
    }
    replaced = [
        f"{package.name}: {wanted[package.name]} replaces {package.version}"
        for package in packages
        if package.name in gone
    ]
    if strict and replaced:
        raise DebianError("the lock is older than Debian's archive:\n" + "\n".join(replaced))
    files = apt.download(list(wanted.items()), folder)
    for package in packages:
        file = files.get(package.name)
        if file is None:
            raise DebianError(f"apt brought no file of {package.name}")
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if package.name not in gone and found != package.digest:
            raise DebianError(
                f"{package.name} {package.version} has SHA-256 {found}; the lock says "
                f"{package.digest}"
            )
        file.rename(folder / f"{package.name}.deb")
    return replaced


def union(locks: Iterable[Sequence[Package]]) -> list[Package]:
    """Returns all packages of some locks, each once.

    Raises:
        DebianError: Two of them have different versions of one.
    """
    found: dict[str, Package] = {}
    for package in (package for lock in locks for package in lock):
        if found.setdefault(package.name, package) != package:
            raise DebianError(
                f"two locks do not agree on {package.name}: {found[package.name].version} and "
                f"{package.version}; write them anew together"
            )
    return list(found.values())


def build_file(locks: Mapping[str, Sequence[Package]]) -> str:
    """Returns a BUILD file with the files of each lock under its name."""
    groups = (
        _GROUP.format(
            name=name,
            files="\n".join(f'        "{package.name}.deb",' for package in sorted(packages)),
        )
        for name, packages in sorted(locks.items())
    )
    return _PACKAGE + "".join(groups)


def _check_machine() -> None:
    try:
        release = Path("/etc/os-release").read_text()
        subprocess.run(["apt-get", "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        release = ""
    if f"VERSION_CODENAME={_SUITE}" not in release:
        raise DebianError(
            f"images are made of packages of Debian {_SUITE}, which this machine's apt does not "
            "know; build them on such a machine, or in a container of it"
        )


def _specified(packages: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name}={version}" for name, version in packages]


def _unquoted(version: str) -> str:
    """A version from the name of a file, in which an epoch's colon is quoted."""
    return version.replace("%3a", ":")


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lock", type=Path, action="append", required=True)
    parser.add_argument("--strict", action="store_true")
    options = parser.parse_args()
    folder = Path.cwd()
    try:
        apt = Apt(folder / "apt")
        apt.update()
        locks = {lock.stem: parse_lock(lock.read_text()) for lock in options.lock}
        replaced = fetch(union(locks.values()), apt, folder, strict=options.strict)
    except DebianError as error:
        sys.exit(f"{error}")
    (folder / "BUILD").write_text(build_file(locks))
    print("\n".join(replaced), end="")


if __name__ == "__main__":
    _main()
