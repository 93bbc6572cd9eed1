"""The files in a layer, one after another, as they are read."""

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import NamedTuple

from registry.oci.blobs import Layout, open_blob, require_digest
from registry.oci.documents import LayoutError
from registry.oci.manifests import Layer
from registry.oci.streams import CHUNK_BYTES, Gunzipped, Hashed, Part, Readable, read_whole, skip
from registry.oci.tar import BLOCK_BYTES, next_entry, padding

# An archive is padded to its blocks, which are 10 KiB unless somebody asks for others.
_MAX_PADDING_BYTES = 2**20

# Directories are not made from their entries; more of them are no artifact.
_MAX_DIRECTORIES = 1000


class LayerFile(NamedTuple):
    """A file of a layer.

    Attributes:
        path: As the layer states it; whatever it may be.
        size: In bytes.
        content: To be read before the next file is asked for.
    """

    path: str
    size: int
    content: Part


def files_of(layout: Layout, layer: Layer) -> Generator[LayerFile, None, None]:
    """Yields the files of a layer, and verifies its digests after the last one.

    Raises:
        LayoutError: The blob is missing or corrupt, or holds something else than plain files.
        OSError: It cannot be read.
    """
    where = f"layer {layer.blob.digest} of {layout.place}"
    with open_blob(layout, layer.blob) as blob:
        content = blob if layer.form != "tar+gzip" else Hashed(Gunzipped(blob, where))
        if layer.form == "raw":
            part = Part(content, layer.blob.size, where)
            yield LayerFile(layer.path or "", layer.blob.size, part)
            skip(part, part.remaining)
        else:
            yield from _files_of_archive(content, where)
            _read_padding(content, where)
        require_digest(blob, layer.blob.digest, layout)
        if content.digest() != layer.diff_digest:
            raise LayoutError(
                f"{where} is corrupt: decompressed it is {content.digest()}; the config says "
                f"{layer.diff_digest}"
            )


def find_small(
    layout: Layout, layers: list[Layer], sizes: dict[str, int], max_searched_bytes: int
) -> dict[str, bytes]:
    """Reads small files, in whatever layers they are; whether they are corrupt, it does not say.

    Args:
        layout: Where the layers are.
        layers: In which to look.
        sizes: The most bytes that a file may have, by path.
        max_searched_bytes: How much of all archives is decompressed in search of them.

    Returns:
        The content of those that there are, by path.

    Raises:
        LayoutError: One is too large, or an archive is broken or too large.
        OSError: A layer cannot be read.
    """
    found: dict[str, bytes] = {}
    # First those that are said to hold them, then those of which nothing is said.
    for layer in sorted(layers, key=lambda each: (each.path not in sizes, each.path is not None)):
        if found.keys() == sizes.keys():
            break
        if layer.form != "raw" or layer.path in sizes:
            max_searched_bytes -= _search(layout, layer, sizes, found, max_searched_bytes)
    return found


def _search(
    layout: Layout, layer: Layer, sizes: dict[str, int], found: dict[str, bytes], max_bytes: int
) -> int:
    """Looks into one layer; returns how many bytes of it were read, or nearly so."""
    num_read = 0
    with closing(files_of(layout, layer)) as files:
        for path, size, content in files:
            name = path.removeprefix("./")
            if name not in sizes and num_read + size > max_bytes:
                break
            if name in sizes:
                if size > sizes[name]:
                    raise LayoutError(
                        f"{name} of layer {layer.blob.digest} of {layout.place} has {size} bytes; "
                        f"at most {sizes[name]}"
                    )
                found[name] = read_whole(content, size)
                # A layer that is one file is read to its end, where its digest is verified.
                if found.keys() == sizes.keys() and layer.form != "raw":
                    break
            num_read += size + BLOCK_BYTES
    return num_read


def _files_of_archive(content: Readable, where: str) -> Iterator[LayerFile]:
    num_directories = 0
    while entry := next_entry(content, where):
        if entry.is_directory:
            num_directories += 1
            if num_directories > _MAX_DIRECTORIES:
                raise LayoutError(f"{where} holds more than {_MAX_DIRECTORIES} directories")
            continue
        file = LayerFile(entry.path, entry.size, Part(content, entry.size, where))
        yield file
        skip(file.content, file.content.remaining)
        skip(content, padding(entry.size))


def _read_padding(content: Readable, where: str) -> None:
    """Reads what follows the end of an archive."""
    remaining = _MAX_PADDING_BYTES
    while chunk := content.read(CHUNK_BYTES):
        remaining -= len(chunk)
        if remaining < 0 or chunk.strip(b"\0"):
            raise LayoutError(f"{where} holds more than an archive; expected nothing after its end")
