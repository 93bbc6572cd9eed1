"""Bytecode of modules by the Python of an image: the one that builds the image may be another.

Python's bytecode has a format for each minor release, and what the compiler makes of a module
differs between patch releases all the same. So the packages of the image's Python are unpacked, and
it is run where they are, with its own loader and libraries.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from infra.bazel.oci.archive import Entry
from infra.bazel.oci.debian import read_deb

_PYTHON = "usr/bin/python3.11"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_LOADER = f"{_LIBRARIES}/ld-linux-x86-64.so.2"
_CACHE, _SUFFIX = "__pycache__", ".cpython-311.pyc"

# Reads triples of a source, its path in the image and where its bytecode goes. What no Python can
# compile, such as examples of an older one, has none. A module is never compared with its source
# (0b01: by hash, unchecked), which cannot change in an image.
_COMPILE = """
import importlib.util, json, marshal, sys, warnings
warnings.simplefilter("ignore")
header = importlib.util.MAGIC_NUMBER + (0b01).to_bytes(4, "little")
for source, path, target in json.load(sys.stdin):
    with open(source, "rb") as file:
        text = file.read()
    try:
        code = compile(text, path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):
        continue
    with open(target, "wb") as file:
        file.write(header + importlib.util.source_hash(text) + marshal.dumps(code))
"""


def bytecode(sources: Mapping[str, Path], debs: Iterable[Path]) -> list[Entry]:
    """Returns the bytecode of modules, each where an interpreter looks for it beside its source.

    Args:
        sources: Files, by their paths in the image.
        debs: The packages of its Python, with all that these need.

    Raises:
        ValueError: There is no Python in the packages.
        CalledProcessError: It did not run.
    """
    with tempfile.TemporaryDirectory(prefix="bytecode-") as folder:
        root, targets = Path(folder) / "root", Path(folder) / "targets"
        _unpack(debs, root)
        if not (root / _PYTHON).exists():
            raise ValueError(f"the packages have no {_PYTHON}")
        targets.mkdir()
        work = [
            (str(source.absolute()), f"/{path}", str(targets / str(number)))
            for number, (path, source) in enumerate(sources.items())
        ]
        subprocess.run(
            [
                *(root / _LOADER, "--library-path", root / _LIBRARIES),
                *(root / _PYTHON, "-I", "-S", "-c", _COMPILE),
            ],
            input=json.dumps(work),
            text=True,
            check=True,
            env={"LC_ALL": "C.UTF-8"},
        )
        return [
            Entry(_place(path), target.read_bytes())
            for path, target in zip(sources, (Path(target) for *_, target in work), strict=True)
            if target.exists()
        ]


def _place(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/{_CACHE}/{name.removesuffix('.py')}{_SUFFIX}"


def _unpack(debs: Iterable[Path], root: Path) -> None:
    for file in debs:
        for entry in read_deb(file).entries:
            path = root / entry.path
            if entry.is_directory:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.link is not None:
                path.symlink_to(entry.link)
            elif isinstance(entry.content, bytes):
                path.write_bytes(entry.content)
                path.chmod(entry.mode)
