"""An image layout as other programs read one: every digest is that of bytes that are there."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from infra.bazel.oci.archive import Entry, write_layer
from infra.bazel.oci.bundle import write_archive
from infra.bazel.oci.layout import serialize, write_layout
from infra.bazel.oci.parts import Part
from infra.bazel.oci.sbom import document

SETTINGS = {
    "entrypoint": ["python3", "-m", "program"],
    "command": [],
    "environment": {"B": "2", "A": "1"},
    "user": "10001:10001",
    "directory": "/home/app",
    "ports": [8000],
    "volumes": ["/data"],
    "labels": {"org.opencontainers.image.title": "example"},
    "health": ["python3", "-m", "check"],
    "reference": "example",
}


@pytest.fixture
def layers(tmp_path: Path) -> list[dict[str, Any]]:
    described = []
    for name in ("lower", "upper"):
        archive = tmp_path / f"{name}.tar.gz"
        written = write_layer([Entry(name, name.encode())], archive)
        described.append({**written._asdict(), "name": name, "archive": str(archive)})
    return described


def read(layout: Path, descriptor: dict[str, Any]) -> bytes:
    content = (layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == descriptor["digest"]
    assert len(content) == descriptor["size"]
    return content


def test_a_layout_leads_from_its_index_to_every_layer(
    layers: list[dict[str, Any]], tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    digest = write_layout(SETTINGS, layers, layout)
    index = json.loads((layout / "index.json").read_bytes())
    assert index["manifests"][0]["digest"] == digest
    manifest = json.loads(read(layout, index["manifests"][0]))
    config = json.loads(read(layout, manifest["config"]))
    assert len(manifest["layers"]) == len(config["rootfs"]["diff_ids"]) == len(config["history"])
    for layer, diff_digest, name in zip(
        manifest["layers"], config["rootfs"]["diff_ids"], ("lower", "upper"), strict=True
    ):
        with tarfile.open(fileobj=io.BytesIO(read(layout, layer)), mode="r:gz") as archive:
            assert archive.getnames() == [name]
            plain = archive.fileobj
            assert plain is not None
            plain.seek(0)
            assert f"sha256:{hashlib.sha256(plain.read()).hexdigest()}" == diff_digest


def test_the_config_says_how_the_image_runs(layers: list[dict[str, Any]], tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    write_layout(SETTINGS, layers, layout)
    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads(read(layout, index["manifests"][0]))
    config = json.loads(read(layout, manifest["config"]))["config"]
    assert config["Entrypoint"] == ["python3", "-m", "program"]
    assert "Cmd" not in config
    assert config["Env"] == ["A=1", "B=2"]
    assert (config["User"], config["ExposedPorts"]) == ("10001:10001", {"8000/tcp": {}})
    assert config["Healthcheck"]["Test"] == ["CMD", "python3", "-m", "check"]


def test_the_archive_is_what_either_engine_takes(
    layers: list[dict[str, Any]], tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    write_layout(SETTINGS, layers, layout)
    content = io.BytesIO()
    write_archive(layout, "example:1", content)
    with tarfile.open(fileobj=io.BytesIO(content.getvalue())) as archive:
        files = {
            member.name: file.read()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }
    (image,) = json.loads(files["manifest.json"])
    assert image["RepoTags"] == ["example:1"]
    for name in [image["Config"], *image["Layers"]]:
        assert hashlib.sha256(files[name]).hexdigest() == name.rpartition("/")[2]


def test_an_inventory_names_each_part_once_by_its_url() -> None:
    parts = [
        Part("pypi", "Typing_Extensions", "4.0"),
        Part("deb", "libstdc++6", "12.2.0-14+deb12u1", "gcc-12@12.2.0-14"),
        Part("deb", "base-files", "12.4+deb12u12"),
        Part("pypi", "Typing_Extensions", "4.0"),
    ]
    found = document("example", "sha256:0", parts)
    urls = [package["externalRefs"][0]["referenceLocator"] for package in found["packages"][1:]]
    assert urls == [
        "pkg:deb/debian/base-files@12.4%2Bdeb12u12?distro=debian-12",
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1"
        "?distro=debian-12&upstream=gcc-12%4012.2.0-14",
        "pkg:pypi/typing-extensions@4.0",
    ]
    ids = [package["SPDXID"] for package in found["packages"]]
    assert len(ids) == len(set(ids)) == len(found["relationships"])
    assert serialize(document("example", "sha256:0", parts[::-1])) == serialize(found)
    assert document("example", "sha256:1", parts) != found
