"""What layers have: files of runfiles, where some are folders that a rule has made."""

from pathlib import Path

from infra.bazel.oci.layers import application_content

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
