"""Tests of the import checker: what it finds, what it lets pass, and what it tells the reader."""

from pathlib import Path

import pytest

from infra.bazel import py_imports

_ENVIRONMENTS = {
    "pip": {"numpy": ["numpy"], "protobuf": ["google.protobuf", "google._upb"], "jax": ["jax"]}
}


def _problems(tmp_path: Path, source: str, modules: set[str], packages: set[str]) -> list[str]:
    path = tmp_path / "module.py"
    path.write_text(source)
    return list(
        py_imports.check(
            "//room:module", [path], frozenset(modules), frozenset(packages), _ENVIRONMENTS
        )
    )


@pytest.mark.parametrize(
    "source",
    [
        "import os.path, json",
        "from collections.abc import Mapping",
        "import numpy.linalg as la",
        "from google.protobuf import struct_pb2",
        "from kernels.attention import reference",
        "from kernels.attention.reference import forward",
        "import kernels.attention.reference",
    ],
)
def test_accepts_what_is_declared(tmp_path: Path, source: str) -> None:
    assert not _problems(
        tmp_path, source, {"kernels.attention.reference"}, {"numpy", "google.protobuf"}
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import jax", "imports jax; add @pip//:jax to the deps of //room:module"),
        ("import os\nfrom jax import numpy", ":2: imports jax; add @pip//:jax"),
        ("def f():\n    import jax.numpy", ":2: imports jax.numpy; add @pip//:jax"),
        ("from google.protobuf import json_format", "imports google.protobuf; add @pip//:protobuf"),
        (
            "from kernels.attention import jax_op",
            "imports kernels.attention; add the target that has this module",
        ),
        ("from . import sibling", "line 1: relative import"),
        ("import (", "invalid syntax"),
    ],
)
def test_names_what_is_missing_and_where(tmp_path: Path, source: str, expected: str) -> None:
    (problem,) = _problems(tmp_path, source, {"kernels.attention.reference"}, {"numpy"})
    assert expected in problem
    assert problem.startswith(str(tmp_path / "module.py"))
