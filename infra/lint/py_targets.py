"""The Python targets of the workspace, as a query shows them, and which has which module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

# What Bazel is asked for.
QUERY = (
    *("query", "--noshow_progress", "--noimplicit_deps", "--keep_going", "--output=xml"),
    'kind("py_.* rule", //...)',
)

# A module belongs to the first of these kinds of targets that has it. Tests are not imported.
_OWNERS = ("py_library", "py_binary", "py_proto_library")

# Where .proto files lie by their package.
_PROTO_ROOT = "proto/"


class Target(NamedTuple):
    """One Python target as a query shows it, all labels absolute."""

    label: str
    rule: str
    srcs: tuple[str, ...]
    data: tuple[str, ...]


class AmbiguousError(Exception):
    """Two libraries have the same module, so that an import could mean either."""


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
      AmbiguousError: If two libraries have the same module.
    """
    found: dict[str, Target] = {}
    candidates = [target for target in all_targets if target.rule in _OWNERS]
    for target in sorted(candidates, key=lambda target: _OWNERS.index(target.rule)):
        for module in _modules_of(target):
            first = found.setdefault(module, target)
            if first is not target and first.rule == target.rule:
                raise AmbiguousError(f"{module} is in both {first.label} and {target.label}")
    return {module: target.label for module, target in found.items()}
