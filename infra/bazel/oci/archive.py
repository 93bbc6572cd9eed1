"""Layers: gzipped tar archives whose bytes depend on what is in them and on nothing else."""

import gzip
import hashlib
import io
import stat
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

# Both ends of every copy.
_CHUNK_BYTES = 2**20

# gzip's own default; Python's is the highest one, which takes several times as long.
_LEVEL = 6

# Root owns all of an image; whoever runs in it can change none of it.
_ROOT = 0


class Entry(NamedTuple):
    """A file, a link or a directory of a layer.

    Attributes:
        path: Relative, as in "opt/app/main.py".
        content: Bytes, or the file that has them; None: it is a link or a directory.
        link: Where a symbolic link points to; None: it is none.
        mode: Of access.
    """

    path: str
    content: bytes | Path | None = None
    link: str | None = None
    mode: int = 0o644

    @property
    def is_directory(self) -> bool:
        """Whether it is neither a file nor a link."""
        return self.content is None and self.link is None


class Written(NamedTuple):
    """A layer that was written.

    Attributes:
        digest: SHA-256 of the file, in hexadecimal.
        diff_digest: SHA-256 of the archive before it was compressed, in hexadecimal.
        size: Of the file, in bytes.
    """

    digest: str
    diff_digest: str
    size: int


class _Hashing(io.RawIOBase):
    """Writes to a file, and hashes and counts what it writes."""

    def __init__(self, target: BinaryIO) -> None:
        self.hash = hashlib.sha256()
        self.size = 0
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # of whatever has bytes
        self.hash.update(data)
        self.size += len(data)
        self._target.write(data)
        return len(data)


def file_entry(path: str, source: Path) -> Entry:
    """Returns a file as it is on disk: its bytes, and whether it can be executed."""
    is_executable = source.stat().st_mode & stat.S_IXUSR
    return Entry(path, source, mode=0o755 if is_executable else 0o644)


def write_layer(entries: Iterable[Entry], target: Path) -> Written:
    """Writes a layer.

    Args:
        entries: In any order, but that of a directory which is there twice the last one counts.
            Directories that are not among them are made, of mode 0755.
        target: The file, which is made.

    Raises:
        ValueError: Two entries have the same path and are not the same, or a path leaves the layer.
        OSError: A file cannot be read, or the layer not be written.
    """
    with target.open("wb") as file:
        compressed = _Hashing(file)
        # No name and no time in its header.
        with gzip.GzipFile("", "wb", _LEVEL, fileobj=compressed, mtime=0) as zipped:
            plain = _Hashing(zipped)  # type: ignore[arg-type]  # is as much of a file as is needed
            with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                for entry in _in_order(entries):
                    _add(archive, entry)
    return Written(compressed.hash.hexdigest(), plain.hash.hexdigest(), compressed.size)


def _in_order(entries: Iterable[Entry]) -> list[Entry]:
    """All entries by path, each directory before what is in it."""
    found: dict[PurePosixPath, Entry] = {}
    for entry in entries:
        path = PurePosixPath(entry.path)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"{entry.path!r} is no path within a layer")
        known = found.get(path, entry)
        if known != entry and not (known.is_directory and entry.is_directory):
            raise ValueError(f"{entry.path} comes from two places, and is not the same")
        found[path] = entry
    for path in list(found):
        for parent in list(path.parents)[:-1]:
            above = found.setdefault(parent, Entry(str(parent), mode=0o755))
            if not above.is_directory:
                raise ValueError(f"{path} is below {parent}, which is no directory")
    return [found[path]._replace(path=str(path)) for path in sorted(found)]


def _add(archive: tarfile.TarFile, entry: Entry) -> None:
    header = tarfile.TarInfo(entry.path)
    header.mode, header.uid, header.gid, header.mtime = entry.mode, _ROOT, _ROOT, 0
    if entry.link is not None:
        header.type, header.linkname, header.mode = tarfile.SYMTYPE, entry.link, 0o777
        archive.addfile(header)
    elif isinstance(entry.content, Path):
        header.size = entry.content.stat().st_size
        with entry.content.open("rb", buffering=_CHUNK_BYTES) as content:
            archive.addfile(header, content)
    elif entry.content is not None:
        header.size = len(entry.content)
        archive.addfile(header, io.BytesIO(entry.content))
    else:
        header.type = tarfile.DIRTYPE
        archive.addfile(header)
