"""Copies of files that may be larger than memory, which nobody can write to."""

import errno
import os
from pathlib import Path

_CHUNK_BYTES = 2**30
_BUFFER_BYTES = 2**20

# A new file that can be read by whom the umask lets, and written by nobody.
READ_ONLY = 0o444

# What the kernel says where these two files cannot be copied without this program's memory.
_NOT_IN_KERNEL = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)


def copy_file(source: Path, target: Path) -> None:
    """Copies a file to a new path, in the kernel where it can: file systems may share the blocks.

    Never a hard link: who owns the source may change it.

    Raises:
        OSError: It cannot be read or written.
    """
    reader = os.open(source, os.O_RDONLY)
    try:
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, READ_ONLY)
        try:
            _copy(reader, writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def write_new(path: Path, content: bytes) -> None:
    """Writes a new file, which is read-only from its beginning, and waits for the disk.

    Raises:
        OSError: It cannot be written.
    """
    writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, READ_ONLY)
    try:
        _write_all(writer, content)
        os.fsync(writer)
    finally:
        os.close(writer)


def make_read_only(path: Path) -> None:
    """Takes the right to write a file from everybody."""
    os.chmod(path, path.stat().st_mode & READ_ONLY)


def _copy(reader: int, writer: int) -> None:
    copied = 0
    try:
        while count := os.copy_file_range(reader, writer, _CHUNK_BYTES):
            copied += count
        # Some file systems answer 0 to what they cannot copy.
        if copied or os.fstat(reader).st_size == 0:
            return
    except OSError as error:
        if copied or error.errno not in _NOT_IN_KERNEL:
            raise
    while buffer := os.read(reader, _BUFFER_BYTES):
        _write_all(writer, buffer)


def _write_all(writer: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(writer, rest) :]
