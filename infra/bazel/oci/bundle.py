"""An image layout as one file: for engines alone, or for registries too."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_REFERENCE = "org.opencontainers.image.ref.name"


def write_archive(layout: Path, tag: str, target: IO[bytes]) -> None:
    """Writes an image as `docker save` does: any engine takes that, and podman its health check.

    Args:
        layout: The folder, which holds one image.
        tag: What the image is to be called, "NAME:TAG".
        target: Where it goes; it is written once, from front to end.
    """
    _, manifest = _described(layout)
    _write(layout, target, {"manifest.json": _of_docker(manifest, tag)}, _blobs(manifest))


def write_bundle(layout: Path, tag: str, target: IO[bytes]) -> None:
    """Writes an image as an OCI archive, whose manifest a registry gets byte for byte.

    It has the description that `docker save` writes, too, so that engines that know no OCI archives
    load it. Its bytes depend on the image and on what it is called, and on nothing else.

    Args: as of `write_archive`.
    """
    index, manifest = _described(layout)
    index["manifests"][0]["annotations"] = {_REFERENCE: tag}
    texts = {"index.json": index, "manifest.json": _of_docker(manifest, tag)}
    names = ["oci-layout", _name(index["manifests"][0]), *_blobs(manifest)]
    _write(layout, target, texts, names)


def name_of(layout: Path) -> str:
    """Returns what the image of a layout is called, without a tag."""
    index, _ = _described(layout)
    return str(index["manifests"][0]["annotations"][_REFERENCE])


def read_description(archive: Path) -> tuple[str, str]:
    """Returns what the image of such a file is called, "NAME:TAG", and its digest, "sha256:..."."""
    with tarfile.open(archive, "r:") as content:
        index, (docker,) = (
            json.load(content.extractfile(name))  # type: ignore[arg-type]  # it is a file
            for name in ("index.json", "manifest.json")
        )
    return docker["RepoTags"][0], index["manifests"][0]["digest"]


def _described(layout: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The index of a layout, and the manifest of its image."""
    index = json.loads((layout / "index.json").read_bytes())
    return index, json.loads((layout / _name(index["manifests"][0])).read_bytes())


def _of_docker(manifest: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    """What `docker save` says of an image."""
    return [
        {
            "Config": _name(manifest["config"]),
            "RepoTags": [tag],
            "Layers": [_name(layer) for layer in manifest["layers"]],
        }
    ]


def _blobs(manifest: dict[str, Any]) -> list[str]:
    """The files of an image's configuration and layers, each once."""
    return list(dict.fromkeys(map(_name, (manifest["config"], *manifest["layers"]))))


def _write(
    layout: Path, target: IO[bytes], texts: Mapping[str, object], blobs: Sequence[str]
) -> None:
    """Writes JSON under some names, and files of the layout after it."""
    with tarfile.open(fileobj=target, mode="w|") as archive:
        for name, value in texts.items():
            content = json.dumps(value, sort_keys=True).encode()
            _add(archive, name, len(content), io.BytesIO(content))
        for name in blobs:
            with (layout / name).open("rb") as file:
                _add(archive, name, (layout / name).stat().st_size, file)


def _name(descriptor: dict[str, Any]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


def _add(archive: tarfile.TarFile, name: str, size: int, content: IO[bytes]) -> None:
    # Of whom a file is and when it was made is not written.
    header = tarfile.TarInfo(name)
    header.size = size
    archive.addfile(header, content)
