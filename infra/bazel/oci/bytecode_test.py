"""Bytecode is what the image's own Python makes of a module, wherever the module is."""

import importlib.util
import marshal
from pathlib import Path

import pytest

from infra.bazel.oci.bytecode import bytecode

DEBS = sorted(Path("../debian").glob("*.deb"))
PLACE = "opt/app/module.py"
HEADER_BYTES = 16


@pytest.fixture
def module(tmp_path: Path) -> Path:
    module = tmp_path / "first" / "module.py"
    module.parent.mkdir()
    module.write_text("import sys\nVERSION = sys.version_info\ndef where():\n    return __file__\n")
    return module


def test_it_is_the_module_and_never_compared_with_its_source(module: Path) -> None:
    (entry,) = bytecode({PLACE: module}, DEBS)
    assert entry.path == "opt/app/__pycache__/module.cpython-311.pyc"
    assert isinstance(entry.content, bytes)
    header, code = entry.content[:HEADER_BYTES], marshal.loads(entry.content[HEADER_BYTES:])
    assert header[:4] == importlib.util.MAGIC_NUMBER
    assert header[4:8] == b"\x01\0\0\0"  # PEP 552: by hash, unchecked
    assert header[8:] == importlib.util.source_hash(module.read_bytes())
    assert code.co_filename == f"/{PLACE}"
    names: dict[str, object] = {}
    exec(code, names)
    assert {"VERSION", "where"} <= names.keys()


def test_it_does_not_depend_on_where_the_module_is(module: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "second"
    elsewhere.write_bytes(module.read_bytes())
    assert bytecode({PLACE: elsewhere}, DEBS) == bytecode({PLACE: module}, DEBS)


def test_what_cannot_be_compiled_has_none(module: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.py"
    old.write_text("print 'of an older Python'\n")
    found = bytecode({"opt/old.py": old, PLACE: module}, DEBS)
    assert [entry.path for entry in found] == ["opt/app/__pycache__/module.cpython-311.pyc"]


def test_packages_without_python_are_refused(module: Path) -> None:
    some = [file for file in DEBS if "python" not in file.name]
    with pytest.raises(ValueError, match=r"the packages have no usr/bin/python3\.11"):
        bytecode({PLACE: module}, some)
