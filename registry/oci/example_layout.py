"""Image layouts for tests, written by hand: of any layers, and as broken as a test wants."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from registry.artifact import publish
from registry.example import example_artifact, example_tensors

Edit = Callable[[dict[str, Any]], object]

SIGNATURE = "signatures/0123456789abcdef.sig"
FILES = {"README.md": b"# digits\n", "programs/model.stablehlo": bytes(range(256))}


class ExampleLayer(NamedTuple):
    """A layer: its media type after "v1.", its bytes, those decompressed, and its annotation."""

    form: str
    content: bytes
    decompressed: bytes
    path: str | None


def unchanged(_: dict[str, Any]) -> None:
    """Leaves a document as it is."""


def make_artifact(directory: Path) -> Path:
    """Publishes a small artifact with files of all kinds and a signature; returns where it is."""
    publish(directory, example_artifact(), example_tensors(), FILES)
    (directory / SIGNATURE).parent.mkdir()
    (directory / SIGNATURE).write_bytes(b'{"a": "signature"}')
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    """Returns every file below a directory by its path."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if not path.is_dir()
    }


def raw(path: str, content: bytes) -> ExampleLayer:
    """Returns a layer that is a file."""
    return ExampleLayer("raw", content, content, path)


def raw_layers(artifact: Path) -> list[ExampleLayer]:
    """Returns a layer for each file of an artifact."""
    return [raw(path, content) for path, content in contents(artifact).items()]


def tar(content: bytes, path: str | None = None) -> ExampleLayer:
    """Returns a layer that is an archive."""
    return ExampleLayer("tar", content, content, path)


def tar_gzip(content: bytes, path: str | None = None) -> ExampleLayer:
    """Returns a layer that is a compressed archive."""
    return ExampleLayer("tar+gzip", gzip.compress(content, compresslevel=1, mtime=0), content, path)


def archive(
    files: Iterable[tuple[str, bytes]],
    format: int = tarfile.PAX_FORMAT,
    edit: Callable[[tarfile.TarInfo], object] = lambda info: None,
) -> bytes:
    """Returns a tar archive, as the standard library writes one.

    Args:
        files: Path and content of each; a path that ends with "/" is a directory's.
        format: Of `tarfile`.
        edit: Changes each header.
    """
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=format) as tar_file:
        for path, content in files:
            info = tarfile.TarInfo(path.rstrip("/"))
            info.type = tarfile.DIRTYPE if path.endswith("/") else tarfile.REGTYPE
            info.size = len(content)
            edit(info)
            tar_file.addfile(info, io.BytesIO(content))
    return written.getvalue()


def write_layout(
    place: Path,
    layers: Iterable[ExampleLayer],
    *,
    config: Edit = unchanged,
    manifest: Edit = unchanged,
    index: Edit = unchanged,
) -> Path:
    """Writes a layout; each of its documents is edited before it is written and digested."""
    layers = list(layers)
    blobs = place / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    config_document = {
        "descriptor": {"name": "digits"},
        "config": {},
        "modelfs": {"type": "layers", "diffIds": [_digest(each.decompressed) for each in layers]},
    }
    config(config_document)
    model = "application/vnd.cncf.model"
    manifest_document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": f"{model}.manifest.v1+json",
        "config": _add(blobs, f"{model}.config.v1+json", _json(config_document)),
        "layers": [
            _add(blobs, f"{model}.weight.v1.{layer.form}", layer.content)
            | ({"annotations": {"org.cncf.model.filepath": layer.path}} if layer.path else {})
            for layer in layers
        ],
    }
    manifest(manifest_document)
    described = _add(blobs, "application/vnd.oci.image.manifest.v1+json", _json(manifest_document))
    described["annotations"] = {"org.opencontainers.image.ref.name": "1.2.3"}
    index_document = {"schemaVersion": 2, "manifests": [described]}
    index(index_document)
    (place / "index.json").write_bytes(_json(index_document))
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return place


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _add(blobs: Path, media_type: str, content: bytes) -> dict[str, Any]:
    digest = _digest(content)
    (blobs / digest.removeprefix("sha256:")).write_bytes(content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}
