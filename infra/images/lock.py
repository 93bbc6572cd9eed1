"""Renews the locks of Debian's packages below debian/: `./bazelw run //infra/images:lock`.

It asks apt what the packages of each NAME.in need on an empty machine, downloads all of it, checked
by Debian's signatures, and writes names, versions and SHA-256 hashes to NAME.lock.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from base.files import write_file
from base.interrupts import exit_when_interrupted
from infra.bazel.debian_packages import Apt, DebianError, Package

_HEADER = "# Written by `./bazelw run //infra/images:lock` from {}; edit that file instead.\n"


def wanted(text: str) -> list[str]:
    """Returns the names of a list of packages, one a line, without comments."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def locked(names: list[str], apt: Apt, folder: Path) -> list[Package]:
    """Resolves and downloads packages.

    Args:
        names: What is wanted.
        apt: It has been updated.
        folder: Where files may be put.

    Raises:
        DebianError: One is not to be had.
    """
    resolved = apt.resolve(names)
    files = apt.download(resolved, folder)
    return [
        Package(name, version, hashlib.sha256(files[name].read_bytes()).hexdigest())
        for name, version in resolved
    ]


def _main() -> None:
    root = Path(os.environ["BUILD_WORKSPACE_DIRECTORY"]) / "infra" / "images" / "debian"
    with tempfile.TemporaryDirectory(prefix="debian-lock-") as temporary:
        try:
            apt = Apt(Path(temporary) / "apt")
            apt.update()
            for source in sorted(root.glob("*.in")):
                folder = Path(temporary) / source.stem
                folder.mkdir()
                packages = locked(wanted(source.read_text()), apt, folder)
                lines = [_HEADER.format(source.name), *(f"{one.line()}\n" for one in packages)]
                write_file(source.with_suffix(".lock"), "".join(lines).encode())
                print(f"{source.stem}.lock: {len(packages)} packages")
        except DebianError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    with exit_when_interrupted("interrupted: locks that were not named are as they were"):
        _main()
