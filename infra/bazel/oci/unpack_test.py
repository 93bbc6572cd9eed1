"""An image as files: each as its layer has it, the last layer's apart."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from infra.bazel.oci.archive import Entry, write_layer
from infra.bazel.oci.layout import write_layout
from infra.bazel.oci.unpack import UnpackError, unpack

SETTINGS: dict[str, Any] = {
    **dict.fromkeys(("entrypoint", "command", "ports", "volumes", "health"), ()),
    **dict.fromkeys(("user", "directory", "reference"), "x"),
    "environment": {},
    "labels": {},
}


def image(folder: Path, *layers: Path) -> Path:
    described = []
    for number, archive in enumerate(layers):
        digests = {"digest": f"{number}", "diff_digest": f"{number}", "size": 0}
        described.append({**digests, "name": archive.name, "archive": str(archive)})
    write_layout(SETTINGS, described, folder / "layout")
    return folder / "layout"


def layer(folder: Path, name: str, *entries: Entry) -> Path:
    write_layer(entries, folder / name)
    return folder / name


def test_files_links_and_modes_are_those_of_the_layers(tmp_path: Path) -> None:
    layout = image(
        tmp_path,
        layer(tmp_path, "1", Entry("usr/lib/x", b"1", mode=0o755), Entry("lib", link="usr/lib")),
        layer(tmp_path, "2", Entry("tmp", mode=0o1777), Entry("usr/lib/y", b"2")),
        layer(tmp_path, "3", Entry("opt/app/main.py", b"3")),
    )
    unpack(layout, tmp_path / "out")
    found = {
        str(path.relative_to(tmp_path / "out")): path.lstat().st_mode & 0o7777
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() or path.name == "tmp"
    }
    assert found == {
        "dependencies/usr/lib/x": 0o755,
        "dependencies/usr/lib/y": 0o644,
        "dependencies/tmp": 0o1777,
        "application/opt/app/main.py": 0o644,
    }
    assert (tmp_path / "out/dependencies/lib").readlink() == Path("usr/lib")
    assert (tmp_path / "out/dependencies/lib/x").read_bytes() == b"1"
    assert (tmp_path / "out/application/opt/app/main.py").read_bytes() == b"3"


def test_what_stands_there_stays(tmp_path: Path) -> None:
    layout = image(tmp_path, layer(tmp_path, "1", Entry("a", b"1")))
    with pytest.raises(UnpackError, match="exists; name a folder that does not"):
        unpack(layout, tmp_path)
    assert json.loads((layout / "oci-layout").read_bytes())


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../out", tarfile.REGTYPE, "")], r"\.\./out is outside of the image"),
        ([("/out", tarfile.REGTYPE, "")], "/out is outside of the image"),
        ([("a", tarfile.SYMTYPE, "/tmp"), ("a/b", tarfile.REGTYPE, "")], "a/b is below a link"),
        ([("a", tarfile.CHRTYPE, "")], "a is neither a file, a directory nor a link"),
    ],
)
def test_nothing_is_written_outside(
    members: list[tuple[str, bytes, str]], message: str, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "1", "w:gz") as archive:
        for name, kind, link in members:
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, link
            archive.addfile(header, io.BytesIO())
    with pytest.raises(UnpackError, match=message):
        unpack(image(tmp_path, tmp_path / "1"), tmp_path / "out")
