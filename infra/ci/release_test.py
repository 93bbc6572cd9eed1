"""Releases of small images: read back by other programs, and through a registry that runs here."""

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.bazel.oci.archive import Entry, write_layer
from infra.bazel.oci.layout import serialize, write_layout
from infra.bazel.oci.parts import Part
from infra.bazel.oci.push import PushError, push
from infra.bazel.oci.sbom import document
from infra.ci.publish import PublishError, publish
from infra.ci.release import ReleaseError, make, notes
from infra.images.testing.podman import give_up
from registry.trust.signing import Signer, generate_key_pair

CHANGELOG = """\
# Changelog

## Unreleased

- Next.

## [1.1.0] - 2026-02-01

### Added

- That.

## 1.0.0

- First.
"""

REGISTRY_CONFIG = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: 127.0.0.1:0}}
log: {{level: info}}
"""


def image(folder: Path, name: str) -> Path:
    """A layout with inventory and digest, as oci_image.bzl leaves it."""
    parts = [Part("deb", "libc6", "2.36", "glibc")]
    layers = []
    for content in ("base", name):
        archive = folder / f"{name}.{content}.tar.gz"
        written = write_layer([Entry(f"opt/{content}", content.encode() * 1000)], archive)
        layers.append({**written._asdict(), "name": content, "archive": str(archive)})
    settings: dict[str, Any] = {
        "entrypoint": [name],
        "command": [],
        "environment": {"A": "1"},
        "user": "10001:10001",
        "directory": "/",
        "ports": [8000],
        "volumes": [],
        "labels": {},
        "health": [],
        "reference": f"hpc-{name}",
    }
    layout = folder / name
    digest = write_layout(settings, layers, layout)
    (folder / f"{name}.digest.txt").write_text(f"{digest}\n")
    (folder / f"{name}.spdx.json").write_bytes(serialize(document(name, digest, parts)))
    return layout


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "images"
    folder.mkdir()
    return [image(folder, name) for name in ("serving", "train")]


@pytest.fixture
def release(images: list[Path], tmp_path: Path) -> Path:
    make(images, "1.1.0", CHANGELOG, tmp_path / "release", None)
    return tmp_path / "release"


def digest(release: Path, name: str) -> str:
    return (release / f"hpc-{name}-1.1.0.digest").read_text().strip()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """HOST:PORT of Debian's docker-registry."""
    for program in ("docker-registry", "skopeo"):
        if not shutil.which(program):
            give_up(f"no {program}; Debian's package of that name has it")
    config = tmp_path / "registry.yaml"
    config.write_text(REGISTRY_CONFIG.format(root=tmp_path / "registry"))
    command = ["docker-registry", "serve", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if found := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
                    yield found[1]
                    break
            else:
                pytest.fail("".join(lines))
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_a_release_is_what_its_checksums_say(release: Path) -> None:
    names = sorted(path.name for path in release.iterdir())
    assert names == [
        *("NOTES.md", "SHA256SUMS"),
        *("hpc-serving-1.1.0.digest", "hpc-serving-1.1.0.oci.tar", "hpc-serving-1.1.0.spdx.json"),
        *("hpc-train-1.1.0.digest", "hpc-train-1.1.0.oci.tar", "hpc-train-1.1.0.spdx.json"),
    ]
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=release,
        capture_output=True,
        text=True,
        check=True,
    )
    assert checked.stdout.count(": OK") == len(names) - 1
    assert (release / "NOTES.md").read_text() == "### Added\n\n- That.\n"
    assert list(release.parent.glob(".partial-*")) == []


def test_the_same_images_make_the_same_release(
    images: list[Path], release: Path, tmp_path: Path
) -> None:
    for layer in (tmp_path / "images").glob("*/blobs/sha256/*"):
        layer.touch()  # neither when nor by whom a file was made counts
    make(images, "1.1.0", CHANGELOG, tmp_path / "again", None)
    assert (tmp_path / "again/SHA256SUMS").read_bytes() == (release / "SHA256SUMS").read_bytes()


def test_signed_by_a_key_openssl_verifies_it(images: list[Path], tmp_path: Path) -> None:
    public = generate_key_pair(tmp_path / "key", "")
    signer = Signer.read(tmp_path / "key")
    make(images, "1.1.0", CHANGELOG, tmp_path / "signed", signer)
    sums = tmp_path / "signed/SHA256SUMS"
    command = ["openssl", "dgst", "-sha256", "-verify", str(public)]
    command += ["-signature", f"{sums}.sig", str(sums)]
    assert subprocess.run(command, check=False).returncode == 0
    sums.write_bytes(sums.read_bytes().replace(b"0", b"1", 1))
    assert subprocess.run(command, check=False).returncode == 1


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.0.0", "- First.\n"),
        ("1.1.0", "### Added\n\n- That.\n"),
        ("2.0.0", "- Next.\n"),
    ],
)
def test_notes_are_those_of_the_version_or_of_the_next(version: str, expected: str) -> None:
    assert notes(CHANGELOG, version) == expected


@pytest.mark.parametrize("changelog", ["", "# Changelog\n", "## Unreleased\n\n## 0.9.0\n\n- Old\n"])
def test_a_release_of_which_nothing_is_said_is_refused(
    changelog: str, images: list[Path], tmp_path: Path
) -> None:
    message = r"nothing below '## 1\.1\.0' or '## Unreleased'; write there"
    with pytest.raises(ReleaseError, match=message):
        make(images, "1.1.0", changelog, tmp_path / "release", None)
    assert not (tmp_path / "release").exists()


@pytest.mark.parametrize("version", ["", "1", "v1.0.0", "1.0", "1.0.0+build", "1.0.0/../x"])
def test_a_version_that_is_none_is_refused(
    version: str, images: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(ReleaseError, match="is no version; expected one such as"):
        make(images, version, CHANGELOG, tmp_path / "release", None)
    assert not (tmp_path / "release").exists()


def test_a_release_is_never_changed(images: list[Path], release: Path) -> None:
    before = (release / "SHA256SUMS").read_bytes()
    with pytest.raises(ReleaseError, match="exists; a release is never changed"):
        make(images, "1.1.0", CHANGELOG, release, None)
    assert (release / "SHA256SUMS").read_bytes() == before


def test_what_fails_half_way_leaves_nothing(images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "images/train.spdx.json").unlink()
    with pytest.raises(OSError, match=r"train\.spdx\.json"):
        make(images, "1.1.0", CHANGELOG, tmp_path / "release", None)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_a_registry_has_the_digests_that_were_built(
    release: Path, registry: str, images: list[Path], tmp_path: Path
) -> None:
    found = list(publish(release, f"{registry}/team", insecure=True))
    assert found == [
        f"{registry}/team/hpc-{name}@{digest(release, name)}" for name in ("serving", "train")
    ]
    # Whoever pulls has the same image, by its digest and by its version.
    for number, name in enumerate((found[0], f"{registry}/team/hpc-serving:1.1.0")):
        pulled = tmp_path / f"pulled{number}"
        subprocess.run(
            [
                *("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false"),
                *("--preserve-digests", f"docker://{name}", f"oci:{pulled}:x"),
            ],
            check=True,
            capture_output=True,
        )
        (described,) = json.loads((pulled / "index.json").read_bytes())["manifests"]
        assert described["digest"] == digest(release, "serving")
    # `bazel run :serving.push` sends the layout itself; it is the same image.
    pushed = push(f"oci:{images[0].resolve()}", f"{registry}/other/image:x", insecure=True)
    assert pushed == digest(release, "serving")
    with pytest.raises(PushError, match="skopeo copy failed: .*HTTP response to HTTPS client"):
        push(f"oci:{images[0].resolve()}", f"{registry}/other/image:y", insecure=False)


def test_what_was_changed_is_not_published(release: Path) -> None:
    archive = release / "hpc-train-1.1.0.oci.tar"
    archive.write_bytes(archive.read_bytes() + b"\0")
    with pytest.raises(PublishError, match=r"hpc-train-1\.1\.0\.oci\.tar is not what SHA256SUMS"):
        list(publish(release, "127.0.0.1:1/team", insecure=True))
    with pytest.raises(PublishError, match="is no release"):
        list(publish(release.parent, "127.0.0.1:1/team", insecure=True))


def test_a_registry_that_is_not_there_is_named(release: Path) -> None:
    if not shutil.which("skopeo"):
        give_up("no skopeo; Debian's package of that name has it")
    with pytest.raises(PushError, match=r"skopeo copy failed: .*127\.0\.0\.1:1"):
        list(publish(release, "127.0.0.1:1/team", insecure=True))


def test_archives_are_one_image_by_either_description(release: Path) -> None:
    with tarfile.open(release / "hpc-serving-1.1.0.oci.tar") as archive:
        members = {member.name: member for member in archive}
        content = archive.extractfile("manifest.json")
        assert content is not None
        described = json.load(content)
    assert described[0]["RepoTags"] == ["hpc-serving:1.1.0"]
    assert {*described[0]["Layers"], described[0]["Config"]} <= members.keys()
    assert {(member.uid, member.mtime) for member in members.values()} == {(0, 0)}
