"""Where the files of an image layout are: below a directory, or in a tar archive of one."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from registry.oci.documents import Descriptor, LayoutError
from registry.oci.streams import Hashed, Part, read_whole
from registry.oci.tar import next_entry, padding

LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"

_GZIP_MAGIC = b"\x1f\x8b"

# Blobs of an archive, which many images may share.
_MAX_ENTRIES = 100_000


class Layout(NamedTuple):
    """An image layout that is open.

    Attributes:
        place: What an error calls it.
        open: Opens a file of it by its name, such as "index.json", for reading.
    """

    place: Path
    open: Callable[[str], AbstractContextManager[Part]]


class _Member(NamedTuple):
    """A file in an archive, in bytes."""

    offset: int
    size: int


@contextmanager
def open_layout(place: Path) -> Iterator[Layout]:
    """Opens an image layout; of an archive, one file of it can be open at a time.

    Args:
        place: A directory, or a tar archive that is not compressed.

    Raises:
        LayoutError: It is neither, or an archive that holds other things than files.
        OSError: It cannot be read.
    """
    if place.is_dir():
        yield Layout(place, partial(_open_in_directory, place))
        return
    with _open_plain(place) as archive:
        members = _members(archive, f"{place}")
        yield Layout(place, partial(_open_in_archive, archive, members, place))


@contextmanager
def open_blob(layout: Layout, blob: Descriptor) -> Iterator[Hashed]:
    """Opens a blob, of which it reads as many bytes as its descriptor says.

    Whether they are those of the digest, is known when they were read: see `require_digest`.

    Raises:
        LayoutError: The blob is missing or has another size.
        OSError: It cannot be read.
    """
    algorithm, hexadecimal = blob.digest.split(":")
    with layout.open(f"blobs/{algorithm}/{hexadecimal}") as content:
        if content.remaining != blob.size:
            raise LayoutError(
                f"blob {blob.digest} of {layout.place} has {content.remaining} bytes; its "
                f"descriptor says {blob.size}"
            )
        yield Hashed(content)


def read_blob(layout: Layout, blob: Descriptor, max_bytes: int) -> bytes:
    """Reads a small blob, and verifies it.

    Raises:
        LayoutError: It is missing, larger than `max_bytes`, or not what its descriptor says.
        OSError: It cannot be read.
    """
    if blob.size > max_bytes:
        raise LayoutError(
            f"blob {blob.digest} of {layout.place} has {blob.size} bytes; at most {max_bytes} are "
            f"read of {blob.media_type[:80]}"
        )
    with open_blob(layout, blob) as content:
        found = read_whole(content, blob.size)
        require_digest(content, blob.digest, layout)
    return found


def require_digest(content: Hashed, digest: str, layout: Layout) -> None:
    """Checks what was read of a blob.

    Raises:
        LayoutError: It has another digest.
    """
    if content.digest() != digest:
        raise LayoutError(
            f"blob {digest} of {layout.place} is corrupt: found {content.digest()}; copy it again"
        )


def read_small(layout: Layout, name: str, max_bytes: int) -> bytes:
    """Reads a file of a layout that is no blob.

    Raises:
        LayoutError: It is missing or larger than `max_bytes`.
        OSError: It cannot be read.
    """
    with layout.open(name) as content:
        if content.remaining > max_bytes:
            raise LayoutError(
                f"{name} of {layout.place} has {content.remaining} bytes; at most {max_bytes}"
            )
        return read_whole(content, content.remaining)


@contextmanager
def _open_in_directory(place: Path, name: str) -> Iterator[Part]:
    with _open_plain(place / name) as file:
        yield Part(file, os.fstat(file.fileno()).st_size, f"{place / name}")


@contextmanager
def _open_in_archive(
    archive: BinaryIO, members: dict[str, _Member], place: Path, name: str
) -> Iterator[Part]:
    if name not in members:
        raise LayoutError(f"{place} is no OCI image layout: it holds no {name}")
    archive.seek(members[name].offset)
    yield Part(archive, members[name].size, f"{name} of {place}")


@contextmanager
def _open_plain(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for reading; neither follows a link nor waits for who writes to a FIFO."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise LayoutError(f"no OCI image layout: {path} is missing") from error
    except OSError as error:  # ELOOP: it is a link
        linked = error.errno == errno.ELOOP
        problem = "it is a symbolic link" if linked else error.strerror
        raise LayoutError(f"cannot read {path}: {problem}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise LayoutError(f"cannot read {path}: it is not a plain file, as all of a layout must be")
    with open(descriptor, "rb", buffering=0) as file:
        yield file


def _members(archive: BinaryIO, where: str) -> dict[str, _Member]:
    if archive.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC:
        raise LayoutError(f"{where} is compressed; decompress it: gzip -d")
    archive.seek(0)
    size = os.fstat(archive.fileno()).st_size
    found: dict[str, _Member] = {}
    for _ in range(_MAX_ENTRIES):
        entry = next_entry(archive, where)
        if entry is None:
            return found
        if entry.is_directory:
            continue
        name = entry.path.removeprefix("./")
        offset = archive.tell()
        if name in found:
            raise LayoutError(f"{where} holds {name[:80]!r} twice; export it again")
        if offset + entry.size > size:
            raise LayoutError(f"{where} is no tar archive: it ends early, in {name[:80]!r}")
        found[name] = _Member(offset, entry.size)
        archive.seek(entry.size + padding(entry.size), os.SEEK_CUR)
    raise LayoutError(f"{where} holds more than {_MAX_ENTRIES} entries; export what is needed")
