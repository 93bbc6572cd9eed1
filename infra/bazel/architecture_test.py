"""Shows that Bazel refuses an upward import, for every pair of rooms.

Makes a workspace with one library a room and one library for each possible edge between two rooms,
declared with the real package groups, and asks a Bazel of its own which of the edges it accepts.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

# The shims that Bazel loads before it looks at any target.
_SHIMS = {"rules_cc": "cc", "rules_java": "java", "rules_proto": "proto"}

_ROOT_BUILD = """
load("//infra/bazel:architecture.bzl", "package_groups")
package_groups()
"""

_ROOM_BUILD = """
py_library(name = "library", visibility = ["//:may_import_{room}"])
[py_library(name = "imports_" + other, deps = ["//%s:library" % other]) for other in {others}]
"""


def _may_import() -> dict[str, list[str]]:
    """Reads MAY_IMPORT, a Starlark constant that is Python as well."""
    namespace: dict[str, dict[str, list[str]]] = {}
    exec(
        Path("infra/bazel/architecture.bzl").read_text().partition("# //:quickstart")[0], namespace
    )
    return namespace["MAY_IMPORT"]


def _make_workspace(root: Path) -> None:
    for path in ("infra/bazel/architecture.bzl", "bazelw", "tools/bazel", ".bazelversion"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path)
    for name, package in _SHIMS.items():
        folder = root / "shims" / name / package
        folder.mkdir(parents=True)
        shutil.copy(Path("..") / name / package / "defs.bzl", folder)
        (folder / "BUILD").write_text("")
        (folder.parent / "WORKSPACE").write_text("")
    (root / "infra/bazel/BUILD").write_text("")
    (root / ".bazelignore").write_text("shims\n")
    (root / "BUILD").write_text(_ROOT_BUILD)
    (root / "WORKSPACE").write_text(
        "\n".join(f'local_repository(name = "{name}", path = "shims/{name}")' for name in _SHIMS)
    )
    rooms = sorted(_may_import())
    for room in rooms:
        (root / room).mkdir(exist_ok=True)
        others = [other for other in rooms if other != room]
        (root / room / "BUILD").write_text(_ROOM_BUILD.format(room=room, others=others))


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """The (importer, imported) pairs of rooms that Bazel refuses."""
    root = tmp_path_factory.mktemp("workspace")
    _make_workspace(root)
    user_root = f"--output_user_root={os.environ['TEST_TMPDIR']}/bazel"
    done = subprocess.run(
        [root / "bazelw", "--batch", user_root, "build", "--nobuild", "--keep_going", "//..."],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Analyzed" in done.stderr or "visib" in done.stderr, done.stderr
    pattern = r"target '//(\w+):library' is not visible from target '//(\w+):imports_\1'"
    return {(importer, imported) for imported, importer in re.findall(pattern, done.stderr)}


def test_every_edge_that_the_design_does_not_allow_fails_to_build(
    refused: set[tuple[str, str]],
) -> None:
    allowed = _may_import()
    expected = {(a, b) for a in allowed for b in allowed if a != b and b not in allowed[a]}
    assert refused == expected


def test_kernels_cannot_import_train(refused: set[tuple[str, str]]) -> None:
    assert ("kernels", "train") in refused
    assert ("train", "kernels") not in refused


def test_the_house_has_no_cycle() -> None:
    """A room may only import rooms that stand before it in the table."""
    order = list(_may_import())
    for room, imported in _may_import().items():
        assert all(order.index(other) < order.index(room) for other in imported), room
