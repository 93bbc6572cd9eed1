"""Writes one layer of an image; run by oci_layers.bzl, with a specification in JSON.

layers KIND SPECIFICATION.json LAYER.tar.gz DESCRIPTOR.json

A descriptor says of a layer what an image has to know: digests, size, and what is in it.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any

from infra.bazel.oci.archive import Entry, file_entry, write_layer
from infra.bazel.oci.bytecode import bytecode
from infra.bazel.oci.debian import Deb, debian_entries, read_deb
from infra.bazel.oci.distributions import (
    closure,
    environment_entries,
    extras_of,
    normalized,
    top_levels,
)
from infra.bazel.oci.parts import Part

Specification = Mapping[str, Any]

Content = tuple[list[Entry], list[Part]]

# By anyone, and what somebody made is removed by nobody else.
_WRITABLE = 0o1777


def debian_content(specification: Specification) -> Content:
    """A Debian of the packages in `packages`, files, but for those named in `left_out`.

    Paths that match a pattern of `excluded` are not in it either.
    """
    left_out = set(specification["left_out"])
    debs = [read_deb(Path(file)) for file in sorted(specification["packages"])]
    names = {deb.field("Package") for deb in debs}
    if not left_out <= names:
        raise ValueError(f"left out, but not there: {', '.join(sorted(left_out - names))}")
    debs = [deb for deb in debs if deb.field("Package") not in left_out]
    parts = [
        Part("deb", deb.field("Package"), deb.field("Version"), _source_of(deb)) for deb in debs
    ]
    entries = [
        entry
        for entry in debian_entries(debs, specification["uid"])
        if not any(fnmatchcase(entry.path, pattern) for pattern in specification["excluded"])
    ]
    return entries, parts


def environment_content(specification: Specification) -> Content:
    """Distributions of an environment.

    Those in `direct` with all that they need, but for `elsewhere` and `without`; or `only` these.
    `shared`, if it is not None, says whose the files are of folders that several have.
    """
    site_packages = Path(specification["environment"])
    modules = json.loads(Path(specification["modules"]).read_text())
    if specification.get("only"):
        wanted = {normalized(name) for name in specification["only"]}
    else:
        extras = extras_of(Path(specification["requirements"]).read_text())
        wanted = closure(site_packages, specification["direct"], extras)
        for name in map(normalized, (*specification["elsewhere"], *specification["without"])):
            wanted.discard(name)
    shared = (
        json.loads(Path(specification["shared"]).read_text()) if specification["shared"] else {}
    )
    owners = top_levels(site_packages, modules, shared)
    entries = environment_entries(
        site_packages, owners, wanted, specification["place"], specification["excluded"], shared
    )
    return _compiled(entries, specification), sorted(_installed(site_packages, wanted))


def application_content(specification: Specification) -> Content:
    """Sources and data below `place`; `files` by their place there.

    `links` are from anywhere, to what is below `place` or to an absolute path.
    """
    entries = [
        Entry(path, link=str(Path(f"/{specification['place']}", target)))
        for path, target in specification["links"].items()
    ]
    for relative, source in specification["files"].items():
        path = f"{specification['place']}/{relative}"
        if path.endswith(".pyi"):  # for people who write code
            continue
        entries += _file_or_folder(path, Path(source))
    return _compiled(entries, specification), []


def folders_content(specification: Specification) -> Content:
    """Empty `folders` to which anyone may write, as then may be a new volume that hides one."""
    return [Entry(folder, mode=_WRITABLE) for folder in specification["folders"]], []


KINDS: Mapping[str, Callable[[Specification], Content]] = {
    "application": application_content,
    "debian": debian_content,
    "environment": environment_content,
    "folders": folders_content,
}


def _file_or_folder(path: str, source: Path) -> Iterator[Entry]:
    """A file, or all files of a folder that is the output of a rule, such as one of cubins."""
    if not source.is_dir():
        yield file_entry(path, source)
        return
    for file in source.rglob("*"):
        if not file.is_dir():
            yield file_entry(f"{path}/{file.relative_to(source).as_posix()}", file)


def _compiled(entries: Iterable[Entry], specification: Specification) -> list[Entry]:
    """The same with the bytecode of all modules, by the Python of `python`, packages of Debian."""
    found = list(entries)
    modules = {
        entry.path: entry.content
        for entry in found
        if entry.path.endswith(".py") and isinstance(entry.content, Path)
    }
    return found + bytecode(modules, map(Path, specification["python"]))


def _source_of(deb: Deb) -> str:
    """What a package says that it was built from: nothing, "NAME" or "NAME (VERSION)"."""
    name, _, version = deb.field("Source").partition(" ")
    return f"{name}@{version.strip('()')}" if version else name


def _installed(site_packages: Path, wanted: set[str]) -> Iterator[Part]:
    for info in site_packages.glob("*.dist-info"):
        distribution = PathDistribution(info)
        if normalized(distribution.name) in wanted:
            yield Part("pypi", distribution.name, distribution.version)


def _main() -> None:
    kind, specification, layer, descriptor = sys.argv[1:]
    entries, parts = KINDS[kind](json.loads(Path(specification).read_text()))
    written = write_layer(entries, Path(layer))
    Path(descriptor).write_text(json.dumps({**written._asdict(), "parts": parts}))


if __name__ == "__main__":
    _main()
