"""What layers have: files of runfiles, where some are folders that a rule has made."""

from pathlib import Path

from infra.bazel.oci.layers import application_content, debian_content

PYTHON = [str(file) for file in Path("../debian").glob("*.deb")]


def test_a_folder_comes_file_by_file(tmp_path: Path) -> None:
    """As do the cubins of kernels, whose names nobody knows before they are made."""
    folder = tmp_path / "cubins"
    (folder / "sm_90").mkdir(parents=True)
    (folder / "metadata.json").write_text("{}")
    (folder / "sm_90" / "kernel.cubin").write_bytes(b"code")
    module = tmp_path / "module.py"
    module.write_text("")
    specification = {
        "files": {"hpc/cubins": str(folder), "hpc/module.py": str(module)},
        "links": {},
        "place": "opt/app",
        "python": PYTHON,
    }
    entries, parts = application_content(specification)
    assert parts == []
    assert {entry.path for entry in entries} == {
        "opt/app/hpc/__pycache__/module.cpython-311.pyc",
        "opt/app/hpc/cubins/metadata.json",
        "opt/app/hpc/cubins/sm_90/kernel.cubin",
        "opt/app/hpc/module.py",
    }


def test_a_package_says_what_it_was_built_from() -> None:
    """By that, scanners look up what is known of it."""
    specification = {"packages": PYTHON, "left_out": [], "excluded": [], "uid": 10001}
    _, parts = debian_content(specification)
    sources = {part.name: part.source for part in parts}
    assert sources["libstdc++6"] == "gcc-12"
    assert sources["libc6"] == "glibc"
    assert sources["base-files"] == ""
    assert {part.kind for part in parts} == {"deb"}
