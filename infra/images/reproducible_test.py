"""Made again in another folder, order and time, an image is the same bytes."""

import gzip
import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from infra.bazel.oci.archive import Entry, Written, write_layer
from infra.bazel.oci.layers import application_content
from infra.bazel.oci.layout import write_layout

LAYOUT = Path("infra/images/serving")
DIGEST = Path("infra/images/serving.digest.txt")
PLACE = "opt/app/"
PYTHON = [str(file) for file in Path("../debian").glob("*.deb")]


def read(digest: str) -> dict[str, Any]:
    return dict(json.loads(blob(digest).read_bytes()))


def blob(digest: str) -> Path:
    return LAYOUT / "blobs" / digest.replace(":", "/")


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return read(json.loads((LAYOUT / "index.json").read_bytes())["manifests"][0]["digest"])


@pytest.fixture(scope="module")
def config(manifest: dict[str, Any]) -> dict[str, Any]:
    return read(manifest["config"]["digest"])


def unpacked(archive: Path, folder: Path) -> dict[str, Path]:
    """The files of a layer, in a folder and new, by their paths in the image."""
    found = {}
    with tarfile.open(archive) as layer:
        members = {member.name: member for member in layer if member.isfile()}
        for number, (name, member) in enumerate(reversed(members.items())):
            content = layer.extractfile(member)
            assert content is not None
            file = folder / f"{number}"
            file.write_bytes(content.read())
            file.chmod(member.mode)
            found[name] = file
    return found


def test_the_projects_own_layer(manifest: dict[str, Any], tmp_path: Path) -> None:
    digest = manifest["layers"][-1]["digest"]
    files = unpacked(blob(digest), tmp_path)
    sources = {
        name.removeprefix(PLACE): str(file)
        for name, file in files.items()
        if not name.endswith(".pyc")
    }
    assert len(sources) < len(files)
    with tarfile.open(blob(digest)) as layer:
        links = {member.name: member.linkname for member in layer if member.issym()}
    specification = {"place": PLACE.rstrip("/"), "files": sources, "links": links, "python": PYTHON}
    entries, _ = application_content(specification)
    written = write_layer(reversed(entries), tmp_path / "layer.tar.gz")
    assert f"sha256:{written.digest}" == digest


def test_debians_layer(manifest: dict[str, Any], tmp_path: Path) -> None:
    digest = manifest["layers"][0]["digest"]
    with tarfile.open(blob(digest)) as layer:
        entries = [entry_of(layer, member) for member in layer]
    written = write_layer(reversed(entries), tmp_path / "layer.tar.gz")
    assert f"sha256:{written.digest}" == digest


def entry_of(layer: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    if member.issym():
        return Entry(member.name, link=member.linkname)
    content = layer.extractfile(member)
    return Entry(member.name, None if content is None else content.read(), mode=member.mode)


def test_the_image_of_the_same_layers(
    manifest: dict[str, Any], config: dict[str, Any], tmp_path: Path
) -> None:
    layers = [
        {
            **described(blob(layer["digest"]))._asdict(),
            "archive": blob(layer["digest"]),
            "name": history["comment"],
        }
        for layer, history in zip(manifest["layers"], config["history"], strict=True)
    ]
    said = config["config"]
    settings = {
        "command": said.get("Cmd", []),
        "directory": said["WorkingDir"],
        "entrypoint": said["Entrypoint"],
        "environment": dict(variable.split("=", 1) for variable in said["Env"]),
        "health": said["Healthcheck"]["Test"][1:],
        "labels": said["Labels"],
        "ports": [int(port.partition("/")[0]) for port in said["ExposedPorts"]],
        "reference": "another",
        "user": said["User"],
        "volumes": list(said.get("Volumes", {})),
    }
    assert write_layout(settings, layers, tmp_path / "layout") == DIGEST.read_text().strip()


def described(archive: Path) -> Written:
    """What its digests are, measured anew."""
    whole, plain = hashlib.sha256(archive.read_bytes()), hashlib.sha256()
    with gzip.open(archive) as content:
        while part := content.read(2**20):
            plain.update(part)
    return Written(whole.hexdigest(), plain.hexdigest(), archive.stat().st_size)
