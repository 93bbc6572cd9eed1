"""Artifacts as OCI image layouts, each file a layer of its own, whose digest is the file's."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from hpc.artifact.v1 import artifact_pb2

from base.files import new_directory
from registry.artifact import VerifiedDescriptor, read_descriptor, require_free
from registry.contents import SIGNATURE_PATH, plain_files
from registry.descriptor import DESCRIPTOR, DIGEST, WEIGHTS
from registry.errors import PlaceTakenError
from registry.oci.blobs import INDEX_FILE, LAYOUT_FILE
from registry.oci.documents import (
    LAYOUT_VERSION,
    REFERENCE_ANNOTATION,
    LayoutError,
    check_reference,
    digest_of,
    serialize,
)
from registry.oci.media_types import (
    INDEX_TYPE,
    MANIFEST_TYPE,
    MODEL_CONFIG_TYPE,
    MODEL_TYPE,
    PATH_ANNOTATION,
    TITLE_ANNOTATION,
    layer_type,
)
from registry.oci.parameters import describe_parameters
from registry.payload import check_digest, copy_chunks, write_hashed

_SCHEMA_VERSION = 2
_ANNOTATION = "org.opencontainers.image"


def export_layout(directory: Path, layout: Path, *, reference: str | None = None) -> str:
    """Writes an artifact as an image layout, which appears whole or not at all.

    Args:
        directory: Of the artifact. All of it is verified on the way, and all of it is in the
            layout: what its descriptor lists, the descriptor, and signatures.
        layout: Where nothing stands, or an empty directory; to a layout nothing is added. Missing
            parents are made.
        reference: The name of the manifest in the layout; the artifact's version, unless given.

    Returns:
        The digest of the manifest, "sha256:...". It is the same whenever the same artifact with the
        same signatures is exported.

    Raises:
        ArtifactError: There is no artifact, or it is corrupt.
        LayoutError: The reference is refused, or `layout` cannot be written.
        PlaceTakenError: `layout` is taken.
    """
    described = read_descriptor(directory)
    reference = described.artifact.version if reference is None else reference
    check_reference(reference)
    try:
        require_free(layout)
        with new_directory(layout) as assembled:
            return _assemble(described, assembled, reference)
    except FileExistsError as error:
        raise PlaceTakenError(
            f"cannot export to {layout}: {error.strerror}; choose a new directory"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: no path can hold a NUL
        raise LayoutError(
            f"cannot export {directory} to {layout}: {getattr(error, 'strerror', None) or error}"
        ) from error


def _assemble(described: VerifiedDescriptor, layout: Path, reference: str) -> str:
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    artifact = described.artifact
    digests = {DESCRIPTOR: described.digest} | {file.path: file.sha256 for file in artifact.files}
    signatures = filter(SIGNATURE_PATH.fullmatch, plain_files(described.directory))
    layers = []
    for path in [DIGEST, *digests, *sorted(signatures)]:
        layer = _copy(described.directory / path, blobs, layer_type(path), digests.get(path))
        layers.append(layer | {"annotations": {PATH_ANNOTATION: path, TITLE_ANNOTATION: path}})

    weights = blobs / digests[WEIGHTS]
    config = _config(artifact, weights, [layer["digest"] for layer in layers])
    manifest = {
        "schemaVersion": _SCHEMA_VERSION,
        "mediaType": MANIFEST_TYPE,
        "artifactType": MODEL_TYPE,
        "config": _write(serialize(config), blobs, MODEL_CONFIG_TYPE),
        "layers": layers,
        "annotations": {
            f"{_ANNOTATION}.{key}": value
            for key, value in {
                "created": _time(artifact),
                "title": artifact.name,
                "version": artifact.version,
                "revision": _revision(artifact),
            }.items()
        },
    }
    written = _write(serialize(manifest), blobs, MANIFEST_TYPE)
    annotations = {REFERENCE_ANNOTATION: reference}
    index = {
        "schemaVersion": _SCHEMA_VERSION,
        "mediaType": INDEX_TYPE,
        "manifests": [written | {"artifactType": MODEL_TYPE, "annotations": annotations}],
    }
    (layout / INDEX_FILE).write_bytes(serialize(index))
    (layout / LAYOUT_FILE).write_bytes(serialize({"imageLayoutVersion": LAYOUT_VERSION}))
    return written["digest"]


def _config(
    artifact: artifact_pb2.Artifact, weights: Path, diff_digests: list[str]
) -> dict[str, Any]:
    """Returns what ModelPack's configuration says of a model; of what we do not know, nothing."""
    return {
        "descriptor": {
            "createdAt": _time(artifact),
            "name": artifact.name,
            "version": artifact.version,
            "revision": _revision(artifact),
        },
        "config": {
            "architecture": artifact.model.architecture,
            "format": "safetensors",
            **describe_parameters(weights),
        },
        "modelfs": {"type": "layers", "diffIds": diff_digests},
    }


def _time(artifact: artifact_pb2.Artifact) -> str:
    """Returns when the model was made, by RFC 3339."""
    return artifact.training_run.finished_at.ToJsonString()


def _revision(artifact: artifact_pb2.Artifact) -> str:
    """Returns the commit, marked as `git describe --dirty` does."""
    run = artifact.training_run
    return f"{run.git_commit}-dirty" if run.git_dirty else run.git_commit


def _copy(path: Path, blobs: Path, media_type: str, expected: str | None) -> dict[str, Any]:
    """Copies a file to the blobs; returns its OCI descriptor.

    Args:
        path: Of the file.
        blobs: Where to.
        media_type: What it is.
        expected: Its SHA-256 in hexadecimal, where it is known.

    Raises:
        ArtifactError: It has another one, or cannot be read.
        OSError: It cannot be written.
    """
    copied = blobs / "copied"
    size, digest = write_hashed(copied, partial(copy_chunks, path))
    if expected is not None:
        check_digest(path, digest, expected)
    copied.rename(blobs / digest)
    return {"mediaType": media_type, "digest": digest_of(digest), "size": size}


def _write(content: bytes, blobs: Path, media_type: str) -> dict[str, Any]:
    """Writes a document to the blobs; returns its OCI descriptor."""
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": digest_of(digest), "size": len(content)}
