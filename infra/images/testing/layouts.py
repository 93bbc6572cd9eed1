"""An image as its layout has it: its configuration, and the members of its layers."""

import json
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any


def manifest(layout: Path) -> dict[str, Any]:
    """Returns the manifest of the layout's image."""
    index = json.loads((layout / "index.json").read_bytes())
    return _read(layout, index["manifests"][0]["digest"])


def config(layout: Path) -> dict[str, Any]:
    """Returns the image's configuration."""
    return _read(layout, manifest(layout)["config"]["digest"])


def layers(layout: Path) -> Iterator[Path]:
    """Yields the archives of the image's layers, the lowest first; what is shared is one file."""
    for layer in manifest(layout)["layers"]:
        yield _blob(layout, layer["digest"]).resolve()


def members(layout: Path) -> Iterator[tarfile.TarInfo]:
    """Yields what is in any of its layers."""
    for layer in layers(layout):
        yield from members_of(layer)


@cache
def members_of(archive: Path) -> list[tarfile.TarInfo]:
    """Returns what is in a layer."""
    with tarfile.open(archive) as layer:
        return layer.getmembers()


def _read(layout: Path, digest: str) -> dict[str, Any]:
    return dict(json.loads(_blob(layout, digest).read_bytes()))


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")
