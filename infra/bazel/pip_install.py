"""Installs a locked requirements file into ./site-packages and describes it to Bazel.

Run by pip_repository.bzl in the new repository's folder, and by //infra/python:lock to try a lock
before it is kept. Needs nothing but the standard library. Writes:

- `site-packages/`: the merged environment, byte-compiled. Nothing in it depends on where or when it
  was installed, so two clones share one cache;
- `modules.json`: the importable names of each distribution, for py_imports;
- `shared.json`: whose the files are of folders that several distributions share, for images;
- `BUILD`: one `py_library` a distribution.
"""

from __future__ import annotations

import argparse
import collections
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Protocol

# PyPI's torch for Linux needs gigabytes of CUDA libraries. Where pip finds the build without them,
# it is taken instead, but for an environment for GPUs.
_TORCH = re.compile(r"^torch==([\d.]+)(?=\s)", flags=re.MULTILINE)

# Recorded by pip for uninstalling: paths, times and origins of one installation, of no use in a
# locked environment.
_INSTALLATION_RECORDS = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")

_BUILD_HEADER = """\
package(default_visibility = ["//visibility:public"])

exports_files(["modules.json", "shared.json", "site-packages"])
"""

_BUILD_LIBRARY = """
py_library(
    name = "{name}",
    data = ["site-packages"],
    imports = ["site-packages"],
)
"""


class InstallError(Exception):
    """The lock cannot be installed; the message says why."""


def normalized(distribution: str) -> str:
    """Returns the target name of a distribution: `scikit-learn` -> `scikit_learn`."""
    return re.sub(r"[-_.]+", "_", distribution).lower()


def split_lock(lock: str, source_distributions: Iterable[str]) -> tuple[str, str]:
    """Splits the text of a lock into what installs from wheels and what is built from source."""
    source = {normalized(name) for name in source_distributions}
    requirements = re.findall(r"^[^\s#-].*(?:\n[ \t]+.*)*", lock, flags=re.MULTILINE)
    parts: tuple[list[str], list[str]] = ([], [])
    for requirement in requirements:
        name = normalized(re.split(r"[=\s]", requirement, maxsplit=1)[0])
        parts[name in source].append(requirement)
    return "\n".join(parts[0]) + "\n", "\n".join(parts[1]) + "\n"


def _run(command: Sequence[str | Path], **environment: str) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = [
            line for line in done.stdout.splitlines() if not line.startswith("WARNING: Location")
        ]
        raise InstallError("\n".join(lines[-40:]))


class Pip:
    """A pip that installs under one prefix, from a virtual environment of its own."""

    def __init__(self, folder: Path, prefix: Path) -> None:
        _run([sys.executable, "-I", "-m", "venv", folder])
        self._python = folder / "bin" / "python"
        self._prefix = prefix
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        self.site_packages = prefix / "lib" / version / "site-packages"

    def finds(self, requirement: str) -> bool:
        """Whether a requirement is to be had."""
        command = [
            *(str(self._python), "-m", "pip", "install", "--quiet", "--no-input", "--dry-run"),
            *("--ignore-installed", "--no-deps", "--only-binary=:all:", requirement),
        ]
        done = subprocess.run(command, capture_output=True, check=False)
        return done.returncode == 0

    def install(self, requirements: Path, *options: str, **environment: str) -> None:
        """Installs exactly the requirements, each file checked against its hash."""
        _run(
            [
                *(
                    self._python,
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--no-input",
                    "--disable-pip-version-check",
                ),
                *("--root-user-action=ignore", "--ignore-installed", "--no-warn-script-location"),
                *("--no-deps", "--require-hashes", "--no-compile", "--prefix", self._prefix),
                *options,
                *("--requirement", requirements),
            ],
            # A user's pip settings say where to look for files; they must not say where to put
            # them.
            **{
                "PIP_USER": "0",
                "PIP_REQUIRE_VIRTUALENV": "0",
                "PYTHONNOUSERSITE": "1",
                **environment,
            },
        )


def _torch_wants_cuda(site_packages: Path) -> bool:
    """Whether the installed torch is a CUDA build, which NVIDIA's libraries must accompany."""
    version = site_packages / "torch" / "version.py"
    if not version.exists():
        return False
    return not re.search(r"^cuda\b.*= None$", version.read_text(), flags=re.MULTILINE)


class Finds(Protocol):
    """What knows which requirements are to be had."""

    def finds(self, requirement: str, /) -> bool:
        """Whether one is."""


def choose_torch(lock: str, pip: Finds, torch: str) -> str:
    """Returns a lock that names the build of torch: the one for the CPU if there is one, or CUDA's.

    Raises:
      InstallError: CUDA's is wanted, and is not to be had.
    """
    found = _TORCH.search(lock)
    if not found:
        return lock
    if torch == "cuda":
        # Equal to the letter: a local version, as of the build for the CPU, is another one.
        exact = f"torch==={found[1]}"
        if not pip.finds(exact):
            raise InstallError(
                f"pip finds no {exact}, PyTorch's build for CUDA, which PyPI has; what it finds "
                "elsewhere, such as +cpu, is another build"
            )
        return _TORCH.sub(exact, lock)
    without_cuda = f"torch=={found[1]}+cpu"
    return _TORCH.sub(without_cuda, lock) if pip.finds(without_cuda) else lock


def install(
    lock: Path, cuda_locks: Sequence[Path], torch: str, source_distributions: Sequence[str]
) -> Path:
    """Installs the lock into ./site-packages, not yet checked, and returns that folder."""
    work = Path("installation").absolute()
    pip = Pip(work / "pip", work / "prefix")
    wheels, sources = split_lock(lock.read_text(), source_distributions)
    wheels = choose_torch(wheels, pip, torch)
    for name, text in (("wheels.txt", wheels), ("sources.txt", sources)):
        (work / name).write_text(text)

    pip.install(work / "wheels.txt", "--only-binary=:all:")
    has_cuda = _torch_wants_cuda(pip.site_packages)
    if torch == "cuda" and not has_cuda:
        raise InstallError("torch is not a build for CUDA, though its version is that of one")
    for cuda_lock in cuda_locks if has_cuda else ():
        pip.install(cuda_lock, "--only-binary=:all:")
    if sources.strip():
        # Their set-up scripts look for torch and a compiler's helpers at run time, and DeepSpeed's
        # for a GPU of this machine, which it would write down.
        pip.install(
            work / "sources.txt",
            "--no-build-isolation",
            "--use-pep517",  # one way of building, whatever the pip of the machine would choose
            DS_ACCELERATOR="cpu",
            PYTHONPATH=str(pip.site_packages),
            SOURCE_DATE_EPOCH="315532800",
        )

    site_packages = Path("site-packages").absolute()
    pip.site_packages.rename(site_packages)
    _keep_programs(work / "prefix" / "bin", site_packages / "bin")
    shutil.rmtree(work)
    return site_packages


def _keep_programs(scripts: Path, destination: Path) -> None:
    """Moves compiled programs (ruff, ninja) to where their packages look for them.

    Scripts are dropped: their first line names a path of this machine.
    """
    for program in sorted(scripts.glob("*")):
        if program.is_file() and program.read_bytes()[:2] != b"#!":
            destination.mkdir(exist_ok=True)
            program.rename(destination / program.name)


def _records(site_packages: Path) -> dict[str, list[tuple[str, str]]]:
    """Returns the (path, hash) of every file below site-packages in each distribution's RECORD."""
    records = {}
    for distribution in metadata.distributions(path=[str(site_packages)]):
        rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
        records[normalized(distribution.metadata["Name"])] = [
            (row[0], row[1]) for row in rows if row and not row[0].startswith((".", "/"))
        ]
    return dict(sorted(records.items()))


def shared_files(records: dict[str, list[tuple[str, str]]]) -> dict[str, list[str]]:
    """Returns whose each file is in the top-level folders that several distributions share."""
    owners: dict[str, set[str]] = collections.defaultdict(set)
    for name, rows in records.items():
        for path, _ in rows:
            owners[path.partition("/")[0]].add(name)
    found: dict[str, list[str]] = collections.defaultdict(list)
    for name, rows in records.items():
        for path, _ in rows:
            top, _, below = path.partition("/")
            if below and len(owners[top]) > 1:
                found[path].append(name)
    return dict(sorted(found.items()))


def check_clashes(records: dict[str, list[tuple[str, str]]]) -> None:
    """Refuses an environment in which two distributions wrote different bytes to one path.

    Raises:
      InstallError: Naming the path and the distributions.
    """
    owners: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
    for name, rows in records.items():
        for path, digest in rows:
            owners[path].append((name, digest))
    for path, claims in owners.items():
        if len({digest for _, digest in claims}) > 1:
            names = " and ".join(name for name, _ in claims)
            raise InstallError(f"{names} both install {path}, with different content")


def check_reserved(modules: dict[str, list[str]], reserved: Iterable[str]) -> None:
    """Refuses a distribution that would shadow a folder of the workspace.

    Raises:
      InstallError: Naming the distribution and the module.
    """
    taken = set(reserved)
    for name, names in modules.items():
        for module in sorted({module.split(".")[0] for module in names} & taken):
            raise InstallError(
                f"{name} installs a top-level module named {module!r}, which is a folder of this "
                "workspace; leave that distribution out, or rename the folder"
            )


def importable(records: dict[str, list[tuple[str, str]]]) -> dict[str, list[str]]:
    """Returns the names that each distribution makes importable.

    A top-level name that several distributions share (`google`, `nvidia`) is listed one level
    further down, as in
    `google.protobuf`.
    """
    tops: dict[str, set[tuple[str, ...]]] = {}
    for name, rows in records.items():
        paths = set()
        for path, _ in rows:
            parts = tuple(path.split("/"))
            if not parts[-1].endswith((".py", ".so")) or not all(
                part.isidentifier() for part in parts[:-1]
            ):
                continue
            stem = parts[-1].split(".")[0]
            module = parts[:-1] if stem == "__init__" else (*parts[:-1], stem)
            if module:
                paths.add(module)
        tops[name] = paths
    owners = collections.Counter(
        top for paths in tops.values() for top in {path[0] for path in paths}
    )
    return {
        name: sorted({".".join(path[: 2 if owners[path[0]] > 1 else 1]) for path in paths})
        for name, paths in tops.items()
    }


def _strip_records(site_packages: Path) -> None:
    for folder in site_packages.glob("*.dist-info"):
        for name in _INSTALLATION_RECORDS:
            (folder / name).unlink(missing_ok=True)


def _byte_compile(site_packages: Path) -> None:
    """Compiles every module; imports then read these files without asking whether a source changed.

    Tests see the environment read-only, so what is not compiled here is compiled again by every
    test.
    """
    subprocess.run(
        [
            *(sys.executable, "-I", "-m", "compileall", "-q", "-q", "-j", "0"),
            *(
                "--invalidation-mode",
                "unchecked-hash",
                "-s",
                str(site_packages),
                "-p",
                "site-packages",
            ),
            str(site_packages),
        ],
        check=False,  # a few wheels ship test data that no Python can compile
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lock", type=Path, required=True)
    parser.add_argument("--cuda-lock", type=Path, action="append", default=[])
    parser.add_argument("--torch", choices=("any", "cuda"), default="any")
    parser.add_argument("--source-distributions", default="")
    parser.add_argument("--reserved", default="")
    parser.add_argument("--extra-build", type=Path)
    options = parser.parse_args()

    try:
        site_packages = install(
            options.lock,
            options.cuda_lock,
            options.torch,
            options.source_distributions.split(","),
        )
        records = _records(site_packages)
        check_clashes(records)
        modules = importable(records)
        check_reserved(modules, options.reserved.split(","))
    except InstallError as error:
        sys.exit(f"{error}")
    _strip_records(site_packages)
    _byte_compile(site_packages)
    Path("modules.json").write_text(json.dumps(modules, indent=1) + "\n")
    Path("shared.json").write_text(json.dumps(shared_files(records), indent=1) + "\n")
    libraries = [_BUILD_LIBRARY.format(name=name) for name in modules]
    extra = ["\n" + options.extra_build.read_text()] if options.extra_build else []
    Path("BUILD").write_text("".join([_BUILD_HEADER, *libraries, *extra]))


if __name__ == "__main__":
    main()
