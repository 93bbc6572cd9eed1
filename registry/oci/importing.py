"""Artifacts from OCI image layouts: the same directory again, or nothing."""

import shutil
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from google.protobuf.message import DecodeError
from hpc.artifact.v1 import artifact_pb2

from base.files import new_directory
from registry.artifact import VerifiedDescriptor, require_free, verify
from registry.contents import MAX_SIGNATURE_BYTES, MAX_SIGNATURES, SIGNATURE_PATH
from registry.descriptor import DESCRIPTOR, DIGEST, MAX_DESCRIPTOR_BYTES, check
from registry.errors import ArtifactError, PlaceTakenError
from registry.oci.blobs import Layout, open_layout
from registry.oci.documents import LayoutError
from registry.oci.layers import LayerFile, files_of, find_small
from registry.oci.manifests import Layer, read_layers
from registry.oci.streams import CHUNK_BYTES

# How much of archives is decompressed to find the descriptor, which says how much all of it is.
_MAX_SEARCHED_BYTES = 64 * 2**20


class _Expected(NamedTuple):
    """What a layout may hold: the size of each file by path; and the paths seen so far."""

    sizes: dict[str, int]
    seen: set[str]


def import_layout(
    layout: Path, directory: Path, *, reference: str | None = None
) -> VerifiedDescriptor:
    """Makes the directory of an artifact from an image layout; it appears verified or not at all.

    Args:
        layout: A directory or a tar archive, as `export_layout` and other programs write them.
            Layers of ModelPack are read: files as they are, and archives (tar, tar+gzip).
        directory: Where nothing stands, or an empty directory. Missing parents are made.
        reference: Which manifest: its name in the layout, or its digest, "sha256:...". None where
            there is but one.

    Returns:
        The artifact's descriptor.

    Raises:
        LayoutError: The layout does not hold what it says, or holds anything but the files that
            the artifact's descriptor lists, its signatures, and the directories above them.
            Or `directory` cannot be written.
        PlaceTakenError: `directory` is taken.

    Of a file no more is read into memory than a few MiB, and no more is written than the
    descriptor says, however small the layers were made by compression.
    """
    try:
        require_free(directory)
        with open_layout(layout) as opened:
            layers = read_layers(opened, reference)
            expected = _expected(opened, layers)
            with new_directory(directory) as assembled:
                _require_space(expected, assembled)
                for layer in layers:
                    for file in files_of(opened, layer):
                        _write(file, expected, assembled, f"{layer.blob.digest} of {layout}")
                artifact, digest = _verified(assembled, layout)
    except FileExistsError as error:
        raise PlaceTakenError(
            f"cannot import to {directory}: {error.strerror}; choose a new directory"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: no path can hold a NUL
        raise LayoutError(
            f"cannot import {layout} to {directory}: {getattr(error, 'strerror', None) or error}"
        ) from error
    return VerifiedDescriptor(artifact, directory, digest)


def _expected(layout: Layout, layers: list[Layer]) -> _Expected:
    """Reads the descriptor first: what it does not list is not read."""
    limits = {DIGEST: MAX_DESCRIPTOR_BYTES, DESCRIPTOR: MAX_DESCRIPTOR_BYTES}
    found = find_small(layout, layers, limits, _MAX_SEARCHED_BYTES)
    if missing := limits.keys() - found.keys():
        raise LayoutError(
            f"{layout.place} holds no artifact: {' and '.join(sorted(missing))} missing, or after "
            f"{_MAX_SEARCHED_BYTES} bytes of archives"
        )
    try:
        artifact = artifact_pb2.Artifact.FromString(found[DESCRIPTOR])
        check(artifact)
    except (DecodeError, ArtifactError) as error:
        raise LayoutError(f"{layout.place} holds a broken {DESCRIPTOR}: {error}") from error
    sizes = {path: len(content) for path, content in found.items()}
    sizes |= {file.path: file.size_bytes for file in artifact.files}
    return _Expected(sizes, set())


def _require_space(expected: _Expected, directory: Path) -> None:
    needed, free = sum(expected.sizes.values()), shutil.disk_usage(directory).free
    if needed > free:
        raise LayoutError(f"the artifact takes {needed} bytes; only {free} are free on the disk")


def _verified(directory: Path, layout: Path) -> tuple[artifact_pb2.Artifact, str]:
    """Verifies what was assembled; an error speaks of the layout, as nothing else will be left."""
    try:
        artifact, _, digest = verify(directory)
    except ArtifactError as error:
        raise LayoutError(str(error).replace(str(directory), str(layout))) from error
    return artifact, digest


def _write(file: LayerFile, expected: _Expected, directory: Path, where: str) -> None:
    path = file.path.removeprefix("./")
    if problem := _problem(path, file.size, expected):
        raise LayoutError(f"{path[:80]!r} in layer {where} is refused: {problem}")
    expected.seen.add(path)
    target = directory / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as written:
        while chunk := file.content.read(CHUNK_BYTES):
            written.write(chunk)


def _problem(path: str, size: int, expected: _Expected) -> str:
    """Says what is wrong with a file of a layer; '' if nothing is."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or "\\" in path or path != "/".join(parts):
        return "expected a relative path without '.', '..' or '\\'"
    if path in expected.seen:
        return "it is there twice"
    if SIGNATURE_PATH.fullmatch(path):
        num_signatures = sum(SIGNATURE_PATH.fullmatch(seen) is not None for seen in expected.seen)
        if size > MAX_SIGNATURE_BYTES or num_signatures == MAX_SIGNATURES:
            return f"at most {MAX_SIGNATURES} signatures of {MAX_SIGNATURE_BYTES} bytes are read"
    elif path not in expected.sizes:
        return f"the artifact does not list it among its {len(expected.sizes)} files"
    elif size != expected.sizes[path]:
        return f"it has {size} bytes; the artifact lists {expected.sizes[path]}"
    return ""
