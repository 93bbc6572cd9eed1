"""Tests of the tool that writes deps: a workspace of two folders, and Bazel's answer given."""

from pathlib import Path

import pytest

from infra.lint import deps_table, py_deps

_ENVIRONMENTS = {
    "pip": {"numpy": ["numpy"], "protobuf": ["google.protobuf"], "pytest": ["pytest"]},
    "pip_clients": {"numpy": ["numpy"], "tritonclient": ["tritonclient"]},
}

_RULE = '<rule class="{rule}" name="{label}">{srcs}{data}</rule>'

_BUILD = 'load(":deps.bzl", "DEPS")\n'


def _list(attribute: str, labels: list[str]) -> str:
    values = "".join(f'<label value="{label}"/>' for label in labels)
    return f'<list name="{attribute}">{values}</list>'


def _answer(*rules: tuple[str, str, list[str], list[str]]) -> str:
    """Returns what Bazel would say of these targets: kind, label, srcs and data."""
    body = "".join(
        _RULE.format(rule=rule, label=label, srcs=_list("srcs", srcs), data=_list("data", data))
        for rule, label, srcs, data in rules
    )
    return f'<?xml version="1.1" encoding="UTF-8" standalone="no"?><query>{body}</query>'


_ANSWER = _answer(
    ("py_library", "//base:seeds", ["//base:seeds.py"], []),
    ("py_library", "//data:loader", ["//data:loader.py"], []),
    ("py_library", "//data:_native", [], ["//data:_native.so", "//data:_native.pyi"]),
    ("py_binary", "//data:show", ["//data:show.py", "//data:main.py"], []),
    ("py_test", "//data:loader_test", ["//data:loader_test.py", "//infra:main.py"], []),
    ("py_proto_library", "//proto/hpc:row_py_proto", ["//proto/hpc:row.proto"], []),
)

_SOURCES = {
    "base/BUILD": _BUILD,
    "base/seeds.py": "import os\n",
    "data/BUILD": _BUILD,
    "data/loader.py": "import numpy as np\nfrom base import seeds\nfrom data import _native\n",
    "data/loader_test.py": "import pytest\nfrom data.loader import batches\n",
    "data/main.py": "def f():\n    import data.show\n",
    "data/show.py": "from google.protobuf import json_format\nfrom hpc import row_pb2\n",
}

_TABLE = {
    "loader.py": [":_native", "//base:seeds", "@pip//:numpy"],
    "loader_test.py": [":loader", "@pip//:pytest"],
    "show.py": ["//proto/hpc:row_py_proto", "@pip//:protobuf"],
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with empty tables, which is the working directory."""
    for name, text in _SOURCES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    deps_table.make_loadable(["base", "data"])
    return tmp_path


def _check(answer: str = _ANSWER, fix: bool = False) -> list[str]:
    tracked = sorted(str(path) for path in Path().glob("*/*"))
    return py_deps.check(tracked, answer, _ENVIRONMENTS, fix)


@pytest.mark.usefixtures("workspace")
def test_fix_writes_what_the_sources_import() -> None:
    assert _check(fix=True) == []
    assert deps_table.read(Path("data/deps.bzl").read_text()) == _TABLE
    assert deps_table.read(Path("base/deps.bzl").read_text()) == {}
    assert _check() == []


@pytest.mark.usefixtures("workspace")
def test_fix_changes_nothing_that_is_right() -> None:
    _check(fix=True)
    before = Path("data/deps.bzl").stat()
    _check(fix=True)
    assert Path("data/deps.bzl").stat() == before


@pytest.mark.usefixtures("workspace")
def test_names_each_target_and_label_that_is_missing_or_unused() -> None:
    table = {**_TABLE, "loader.py": [":_native", ":show", "@pip//:numpy"], "gone.py": [":show"]}
    Path("data/deps.bzl").write_text(deps_table.render(table))
    assert _check() == [
        "data/loader.py:2: imports base; the deps of //data:loader lack //base:seeds",
        "data/loader.py: does not import :show, which is among the deps of //data:loader",
        "data/deps.bzl: no target of the folder has gone.py",
    ]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import nothing", "data/show.py: line 1: imports nothing, which no target has"),
        ("import tritonclient, pytest", "data/show.py: line 1: imports"),
        ("from . import loader", "data/show.py: line 1: relative import"),
        ("import (", "data/show.py: "),
    ],
)
@pytest.mark.usefixtures("workspace")
def test_says_what_it_cannot_resolve_and_keeps_what_was_there(source: str, problem: str) -> None:
    _check(fix=True)
    Path("data/show.py").write_text(source)
    for fix in (False, True):
        (said,) = _check(fix=fix)
        assert said.startswith(problem)
    assert deps_table.read(Path("data/deps.bzl").read_text()) == _TABLE


@pytest.mark.usefixtures("workspace")
def test_a_source_has_one_environment() -> None:
    Path("data/show.py").write_text("import numpy\nimport tritonclient.grpc\n")
    assert _check(fix=True) == []
    table = deps_table.read(Path("data/deps.bzl").read_text())
    assert table["show.py"] == ["@pip_clients//:numpy", "@pip_clients//:tritonclient"]


@pytest.mark.usefixtures("workspace")
def test_a_file_in_no_target_is_named() -> None:
    Path("data/forgotten_test.py").write_text("")
    assert _check()[:1] == ["data/forgotten_test.py: is in no target of data/BUILD"]


@pytest.mark.usefixtures("workspace")
def test_a_source_that_is_gone_is_named() -> None:
    _check(fix=True)
    Path("base/seeds.py").unlink()
    assert _check() == ["base/seeds.py: //base:seeds has it in srcs, but there is none"]


@pytest.mark.usefixtures("workspace")
def test_two_libraries_with_one_module_are_refused() -> None:
    twice = [("py_library", f"//base:{name}", ["//base:seeds.py"], []) for name in ("a", "b")]
    assert _check(_answer(*twice)) == ["base.seeds is in both //base:a and //base:b"]


@pytest.mark.usefixtures("workspace")
def test_a_table_with_a_conflict_in_it_is_written_anew() -> None:
    _check(fix=True)
    text = Path("data/deps.bzl").read_text()
    Path("data/deps.bzl").write_text("<<<<<<< ours\n" + text)
    deps_table.make_loadable(["data"])
    assert _check(fix=True) == []
    assert Path("data/deps.bzl").read_text() == text


def test_a_source_has_a_line_however_long() -> None:
    labels = [f"//a/folder:with_a_long_name_{n}" for n in range(9)]
    text = deps_table.render({"a.py": labels, "b.py": [":a", "//b:a", "@pip//:numpy"]})
    (line,) = [line for line in text.splitlines() if line.startswith('    "a.py": [')]
    assert line.endswith('_8"],')
    assert '    "b.py": [":a", "//b:a", "@pip//:numpy"],\n' in text
    assert deps_table.read(text)["a.py"] == labels


def test_folders_are_those_whose_build_file_loads_the_table(workspace: Path) -> None:
    (workspace / "BUILD").write_text(_BUILD)
    (workspace / "base" / "BUILD").write_text("py_library()\n")
    assert deps_table.folders(["BUILD", "base/BUILD", "data/BUILD", "data/loader.py"]) == [
        "",
        "data",
    ]
