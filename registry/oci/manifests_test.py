"""Documents of a layout that are broken, or mean what is not read, are refused in one line."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.oci.documents import MAX_DOCUMENT_BYTES, LayoutError
from registry.oci.example_layout import make_artifact, raw_layers, write_layout
from registry.oci.exporting import export_layout
from registry.oci.importing import import_layout

Edit = Callable[[dict[str, Any]], object]

NO_DIGEST = "expected sha256:<64 lower-case hexadecimal digits>"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "artifact")


def refuse(layout: Path, message: str) -> None:
    """Checks that a layout is refused in one line, and nothing comes of it."""
    target = layout.with_name("new") / "again"
    with pytest.raises(LayoutError, match=message) as caught:
        import_layout(layout, target)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1500
    assert not target.parent.exists()


def put(key: str, value: object) -> Edit:
    """An edit that sets a key; "a/0/b" is one within others."""

    def edit(document: dict[str, Any]) -> None:
        *above, last = [int(part) if part.isdigit() else part for part in key.split("/")]
        target: Any = document
        for part in above:
            target = target[part]
        target[last] = value

    return edit


BAD_DIGESTS = [
    "sha512:" + "a" * 128,
    "sha256:../../../etc/passwd",
    "sha256:" + "../" * 21 + "a",
    "../sha256:" + "a" * 64,
    "sha256:" + "A" * 64,
    "sha256:" + "a" * 63,
    "sha256:" + "a" * 64 + "\n",
    "sha256:",
    "",
    "a" * 64,
    7,
    None,
]


@pytest.mark.parametrize("digest", BAD_DIGESTS, ids=lambda digest: repr(digest)[:20])
@pytest.mark.parametrize("key", ["manifests/0/digest", "config/digest", "layers/0/digest"])
def test_digest_that_is_none_is_refused(
    artifact: Path, tmp_path: Path, key: str, digest: object
) -> None:
    document = "index" if key.startswith("manifests") else "manifest"
    edits = {document: put(key, digest)}
    layout = write_layout(tmp_path / "layout", raw_layers(artifact), **edits)
    message = NO_DIGEST if isinstance(digest, str) else "should be a valid string"
    refuse(layout, rf"{key.replace('/', '.')}: .*{message}, got {digest!r}"[:100].rstrip("\\"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schemaVersion", 1, "schemaVersion: .*got 1"),
        ("schemaVersion", "2", "schemaVersion: expected an integer, got '2'"),
        ("schemaVersion", True, "schemaVersion: expected an integer, got True"),
        ("manifests", {}, "manifests: expected a list, got {}"),
        ("manifests", [], "holds no manifest; give one of .*there is none"),
        ("manifests", [7], "manifests.0: expected a section of keys, got 7"),
        ("manifests/0/size", -1, "manifests.0.size: .*greater than or equal to 0, got -1"),
        ("manifests/0/size", 2**63, "manifests.0.size: .*less than or equal to"),
        ("manifests/0/size", "7", "manifests.0.size: .*valid integer, got '7'"),
        ("manifests/0/size", 7, r"has \d+ bytes; its descriptor says 7"),
        ("manifests/0/size", MAX_DOCUMENT_BYTES + 1, "at most 4194304 are read of"),
        ("manifests/0/digest", "sha256:" + "0" * 64, "blobs/sha256/0{64} is missing"),
        (
            "manifests/0/mediaType",
            "application/vnd.oci.image.index.v1+json",
            "an index within the index is not followed",
        ),
        (
            "manifests/0/mediaType",
            "application/vnd.docker.distribution.manifest.v2+json",
            "expected application/vnd.oci.image.manifest.v1.json",
        ),
        ("manifests/0/annotations", {"a": 7}, "manifests.0.annotations.a: .*valid string, got 7"),
        ("manifests/0/urls", ["http://x/"], "manifests.0.urls: nothing is fetched from elsewhere"),
    ],
)
def test_broken_index_is_refused(
    artifact: Path, tmp_path: Path, key: str, value: object, message: str
) -> None:
    layout = write_layout(tmp_path / "layout", raw_layers(artifact), index=put(key, value))
    refuse(layout, message)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schemaVersion", 3, "schemaVersion: .*got 3"),
        ("mediaType", "x", "mediaType: .*'application/vnd.oci.image.manifest.v1.json', got 'x'"),
        (
            "artifactType",
            "application/vnd.docker.ai.model",
            "artifactType: .*'application/vnd.cncf.model.manifest.v1.json', got",
        ),
        (
            "config/mediaType",
            "application/vnd.oci.image.config.v1+json",
            "config.mediaType: .*'application/vnd.cncf.model.config.v1.json', got",
        ),
        ("config/size", 2**40, "config|blob .* at most 4194304 are read"),
        ("layers", [], "layers: expected a list of at least 1, got"),
        ("layers", [{}] * 2000, "layers"),
        (
            "layers/0/mediaType",
            "application/vnd.oci.image.layer.v1.tar",
            "cannot be read; expected",
        ),
        ("layers/0/mediaType", "x" * 10**6, "media type 'x{80}' cannot be read"),
        ("layers/0/urls", ["https://example.com/layer"], "layers.0.urls: nothing is fetched"),
        ("layers/0/size", 0, r"has \d+ bytes; its descriptor says 0"),
        ("layers/0/size", 2**62, "its descriptor says 4611686018427387904"),
        ("layers/0/digest", "sha256:" + "0" * 64, "is not compressed, but the config says"),
        ("layers/0/annotations", {}, "is one file without a name; expected org.cncf.model.file"),
        ("layers/0/annotations", {"org.cncf.model.filepath": ""}, "is one file without a name"),
    ],
)
def test_broken_manifest_is_refused(
    artifact: Path, tmp_path: Path, key: str, value: object, message: str
) -> None:
    layout = write_layout(tmp_path / "layout", raw_layers(artifact), manifest=put(key, value))
    refuse(layout, message)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("modelfs", None, "modelfs: expected a section of keys, got None"),
        ("modelfs", {"type": "layers"}, "modelfs.diffIds: missing, but required"),
        ("modelfs/type", "rootfs", "modelfs.type: .*'layers', got 'rootfs'"),
        ("modelfs/diffIds", [], "modelfs.diffIds: expected one of each of the 6 layers, got 0"),
        ("modelfs/diffIds/0", "sha256:x", f"modelfs.diffIds.0: {NO_DIGEST}"),
        ("modelfs/diffIds/0", "sha256:" + "0" * 64, "is not compressed, but the config says"),
    ],
)
def test_broken_config_is_refused(
    artifact: Path, tmp_path: Path, key: str, value: object, message: str
) -> None:
    layout = write_layout(tmp_path / "layout", raw_layers(artifact), config=put(key, value))
    refuse(layout, message)


NO_JSON = {
    "empty": (b"", "is not JSON: Expecting value"),
    "not UTF-8": (b'{"a": "\xff"}', "is not JSON: 'utf-8' codec can't decode"),
    "UTF-16": ('{"schemaVersion": 2}'.encode("utf-16"), "is not JSON"),
    "a list": (b"[]", r"is not a JSON object: expected {...}, got \[\]"),
    "two values": (b"{}{}", "is not JSON: Extra data"),
    "NaN": (b'{"a": NaN}', "is not JSON: NaN is no JSON number"),
    "a key twice": (b'{"a": 1, "b": {"c": 1, "c": 2}}', "is not JSON: key 'c' is repeated"),
    "deep": (b"[" * 10**6, "is not JSON: maximum recursion depth exceeded"),
    "deep objects": (b'{"a":' * 10**5, "is not JSON: maximum recursion depth exceeded"),
    "a long number": (b'{"a": ' + b"9" * 10**5 + b"}", "is not JSON: Exceeds the limit"),
    "large": (b'{"a": "' + b"x" * MAX_DOCUMENT_BYTES + b'"}', "bytes; at most 4194304"),
}


@pytest.mark.parametrize("name", NO_JSON)
@pytest.mark.parametrize("document", ["oci-layout", "index.json", "manifest", "config"])
def test_what_is_no_json_is_refused(
    artifact: Path, tmp_path: Path, document: str, name: str
) -> None:
    content, message = NO_JSON[name]
    digest = hashlib.sha256(content).hexdigest()
    described = {"digest": f"sha256:{digest}", "size": len(content)}
    edits: dict[str, Edit] = {}
    if document == "manifest":
        edits["index"] = lambda index: index["manifests"][0].update(described)
    elif document == "config":
        edits["manifest"] = lambda manifest: manifest["config"].update(described)
    layout = write_layout(tmp_path / "layout", raw_layers(artifact), **edits)
    path = document if document in ("oci-layout", "index.json") else f"blobs/sha256/{digest}"
    (layout / path).write_bytes(content)
    refuse(layout, message)


def test_unknown_fields_are_passed_over(artifact: Path, tmp_path: Path) -> None:
    edit = put("com.example.new", {"deep": [1, 2.5, None]})
    layout = write_layout(
        tmp_path / "layout", raw_layers(artifact), index=edit, manifest=edit, config=edit
    )
    import_layout(layout, tmp_path / "again")


@pytest.mark.parametrize("version", ["2.0.0", 1, None])
def test_layout_of_another_version_is_refused(
    artifact: Path, tmp_path: Path, version: object
) -> None:
    layout = write_layout(tmp_path / "layout", raw_layers(artifact))
    (layout / "oci-layout").write_text(json.dumps({"imageLayoutVersion": version}))
    refuse(layout, f"oci-layout of .*: imageLayoutVersion: .*got {version!r}")


def test_several_manifests_of_one_reference_are_refused(artifact: Path, tmp_path: Path) -> None:
    def twice(index: dict[str, Any]) -> None:
        (first,) = index["manifests"]
        index["manifests"].append(first | {"digest": "sha256:" + "0" * 64})

    layout = write_layout(tmp_path / "layout", raw_layers(artifact), index=twice)
    with pytest.raises(LayoutError, match=r"holds several manifests called '1\.2\.3'; give one"):
        import_layout(layout, tmp_path / "again", reference="1.2.3")


def test_manifest_under_two_names_is_one(artifact: Path, tmp_path: Path) -> None:
    def twice(index: dict[str, Any]) -> None:
        index["manifests"].append(dict(index["manifests"][0], annotations={}))

    layout = write_layout(tmp_path / "layout", raw_layers(artifact), index=twice)
    import_layout(layout, tmp_path / "again")


def pack(directory: Path, archive: Path, *arguments: str) -> Path:
    subprocess.run(
        ["tar", "--hard-dereference", "-cf", archive, *arguments], cwd=directory, check=True
    )
    return archive


def test_broken_archive_of_a_layout_is_refused(artifact: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    export_layout(artifact, layout)
    refuse(pack(layout, tmp_path / "zipped.tar", "-z", "."), "is compressed; decompress it")
    refuse(pack(layout, tmp_path / "a.tar", "blobs"), "is no OCI image layout: it holds no oci-la")
    refuse(pack(layout, tmp_path / "b.tar", "oci-layout", "blobs"), "it holds no index.json")
    refuse(pack(layout, tmp_path / "c.tar", ".", "index.json"), "holds 'index.json' twice")
    refuse(artifact / "README.md", "is no tar archive: it ends early")
    refuse(artifact / "absent", "no OCI image layout: .*absent is missing")
    refuse(artifact, "no OCI image layout: .*oci-layout is missing")

    whole = pack(layout, tmp_path / "d.tar", ".").read_bytes()
    (tmp_path / "d.tar").write_bytes(whole[: len(whole) // 4])
    refuse(tmp_path / "d.tar", "is no tar archive: it ends early")
    (layout / "oci-layout").unlink()
    (layout / "oci-layout").symlink_to("index.json")
    refuse(pack(layout, tmp_path / "e.tar", "."), "holds a symbolic link at './oci-layout'")


@pytest.mark.parametrize("name", ["index.json", "oci-layout", "blob"])
@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "missing"])
def test_layout_is_of_plain_files(artifact: Path, tmp_path: Path, name: str, kind: str) -> None:
    layout = write_layout(tmp_path / "layout", raw_layers(artifact))
    path = next((layout / "blobs" / "sha256").iterdir()) if name == "blob" else layout / name
    path.rename(tmp_path / "moved")
    if kind == "link":
        path.symlink_to(tmp_path / "moved")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    with pytest.raises(LayoutError, match=rf"{path.name}[: ]"):
        import_layout(layout, tmp_path / "again")
    assert not (tmp_path / "again").exists()
