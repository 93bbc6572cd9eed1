"""Prints what each image weighs, layer by layer: `./bazelw run //infra/images:sizes`.

`sent` is what a registry stores and a network carries, `unpacked` what a machine keeps on its disk.
A layer that several images have is stored and sent once.
"""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from base.interrupts import exit_when_interrupted

_MIB = 2**20


class Layer(NamedTuple):
    """One layer; sizes in bytes."""

    name: str
    digest: str
    sent: int
    unpacked: int


def layers(layout: Path) -> Iterator[Layer]:
    """Yields the layers of an image, the lowest first."""
    manifest = _read(layout, _read_file(layout / "index.json")["manifests"][0]["digest"])
    config = _read(layout, manifest["config"]["digest"])
    for described, history in zip(manifest["layers"], config["history"], strict=True):
        digest = described["digest"]
        unpacked = _unpacked_bytes(_blob(layout, digest))
        yield Layer(history["comment"], digest, described["size"], unpacked)


def _unpacked_bytes(archive: Path) -> int:
    total = 0
    with gzip.open(archive) as content:
        while part := content.read(_MIB):
            total += len(part)
    return total


def _read(layout: Path, digest: str) -> dict:
    return _read_file(_blob(layout, digest))


def _read_file(file: Path) -> dict:
    return dict(json.loads(file.read_bytes()))


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def _main() -> None:
    seen: set[str] = set()
    print(f"{'MiB':>32}  {'sent':>8}  {'unpacked':>8}")
    for layout in map(Path, sys.argv[1:]):
        found = list(layers(layout))
        for layer in found:
            again = "  shared" if layer.digest in seen else ""
            print(
                f"{layer.name:>32}  {layer.sent / _MIB:8.1f}  {layer.unpacked / _MIB:8.1f}{again}"
            )
        sent, unpacked = (sum(column) / _MIB for column in list(zip(*found, strict=True))[2:])
        print(f"{layout.name:>32}  {sent:8.1f}  {unpacked:8.1f}\n")
        seen.update(layer.digest for layer in found)


if __name__ == "__main__":
    with exit_when_interrupted("interrupted"):
        _main()
