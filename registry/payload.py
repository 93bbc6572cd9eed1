"""The bytes of one file of an artifact: written and hashed in one go, verified where they are read.

A link, a pipe or a device is refused when it is opened, whatever stood there before.
"""

import errno
import hashlib
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

import numpy as np
from hpc.artifact.v1 import artifact_pb2

from registry.errors import ArtifactError

# Read and hashed at once: large enough that calls cost nothing, small enough for a cache.
_CHUNK_BYTES = 2 * 2**20


def read_small(path: Path, max_bytes: int) -> bytes:
    """Returns a plain file, of which nothing is known yet.

    Raises:
        ArtifactError: It cannot be read, is no plain file, or is larger than `max_bytes`.
    """
    with _opened(path) as file:
        content = _read(path, file, max_bytes + 1)
    if len(content) > max_bytes:
        raise corrupt(path, f"it is larger than {max_bytes} bytes")
    return content


def read_verified(directory: Path, file: artifact_pb2.File) -> np.ndarray:
    """Returns a file's bytes from memory that nobody else can change, verified there.

    Returns:
        uint8 of shape [file.size_bytes]; the only copy.

    Raises:
        ArtifactError: It cannot be read, or is not as `file` says.
    """
    path = directory / file.path
    with _opened(path) as source:
        # Before memory is asked for: the size in a descriptor may be any number.
        _check_open_size(path, source, file.size_bytes)
        content = np.empty(file.size_bytes, np.uint8)
        digest = _read_into(path, source, content.data)
    check_digest(path, digest, file.sha256)
    return content


def _read_into(path: Path, source: BufferedReader, memory: memoryview) -> str:
    """Fills memory from a file and returns the SHA-256 digest of what is there."""
    hasher, begin = hashlib.sha256(), 0
    while begin < len(memory):
        try:
            num_read = source.readinto(memory[begin : begin + _CHUNK_BYTES])
        except OSError as error:
            raise unreadable(path, error) from error
        if not num_read:
            raise corrupt(path, f"expected {len(memory)} bytes, found {begin}")
        hasher.update(memory[begin : begin + num_read])
        begin += num_read
    return hasher.hexdigest()


def map_file(directory: Path, file: artifact_pb2.File) -> np.ndarray:
    """Returns a file's bytes where the operating system keeps them, not verified.

    Pages are shared with other processes, and are dropped and read again as it suits the system: a
    program that changes the file later changes them, and one that shortens it ends who reads on.

    Returns:
        uint8 of shape [file.size_bytes], read-only.

    Raises:
        ArtifactError: It cannot be read, or is of another size.
    """
    return _view_of(_map(directory, file))


def map_verified(directory: Path, file: artifact_pb2.File) -> np.ndarray:
    """Returns a file's bytes as `map_file`, verified there; none of them is resident afterwards.

    Raises:
        ArtifactError: It cannot be read, or is not as `file` says.
    """
    mapping = _map(directory, file)
    content = _view_of(mapping)
    hasher = hashlib.sha256()
    for begin in range(0, content.size, _CHUNK_BYTES):
        chunk = content[begin : begin + _CHUNK_BYTES]
        hasher.update(chunk.data)
        if mapping is not None:  # The system keeps them, this process does not count them.
            mapping.madvise(mmap.MADV_DONTNEED, begin, chunk.size)
    check_digest(directory / file.path, hasher.hexdigest(), file.sha256)
    return content


def _map(directory: Path, file: artifact_pb2.File) -> mmap.mmap | None:
    """Maps a file; None: it is empty, and there is no mapping of nothing."""
    path = directory / file.path
    with _opened(path) as source:
        _check_open_size(path, source, file.size_bytes)
        if not file.size_bytes:
            return None
        try:
            return mmap.mmap(source.fileno(), file.size_bytes, access=mmap.ACCESS_READ)
        except OSError as error:
            raise unreadable(path, error) from error


def _view_of(mapping: mmap.mmap | None) -> np.ndarray:
    return np.frombuffer(mapping or b"", np.uint8)


def verify_file(directory: Path, file: artifact_pb2.File) -> None:
    """Checks a file in memory that does not grow with it.

    Raises:
        ArtifactError: It cannot be read, or is not as `file` says.
    """
    path = directory / file.path
    hasher, num_bytes = hashlib.sha256(), 0
    with _opened(path) as source:
        _check_open_size(path, source, file.size_bytes)
        while chunk := _read(path, source):
            hasher.update(chunk)
            num_bytes += len(chunk)
            if num_bytes > file.size_bytes:
                break
    if num_bytes != file.size_bytes:
        raise corrupt(path, f"expected {file.size_bytes} bytes, found {num_bytes}")
    check_digest(path, hasher.hexdigest(), file.sha256)


def write_hashed(
    path: Path, produce: Callable[[Callable[[bytes | memoryview], object]], object]
) -> tuple[int, str]:
    """Writes a new file and hashes what is written, in one go.

    Args:
        path: Of the file; its folders are made.
        produce: Calls what it is given with the next bytes, from the first to the last.

    Returns:
        The size in bytes and the SHA-256 digest in hex.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    hasher, size_bytes = hashlib.sha256(), 0
    with path.open("xb", buffering=0) as file:

        def write(content: bytes | memoryview) -> None:
            nonlocal size_bytes
            hasher.update(content)
            size_bytes += len(content)
            written = 0
            while written < len(content):
                written += file.write(content[written:])

        produce(write)
    return size_bytes, hasher.hexdigest()


def copy_chunks(source: Path, write: Callable[[bytes], object]) -> None:
    """Passes on the bytes of a plain file.

    Raises:
        ArtifactError: It cannot be read, or is no plain file.
    """
    with _opened(source) as file:
        while chunk := _read(source, file):
            write(chunk)


def check_digest(path: Path, actual: str, expected: str) -> None:
    """Raises ArtifactError unless the digests of a file are the same."""
    if actual != expected:
        raise corrupt(path, f"expected SHA-256 {expected}, found {actual}")


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """Opens a plain file; O_NONBLOCK, since to open a pipe waits for who writes into it."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:  # ValueError: no path can hold a NUL
        if getattr(error, "errno", None) == errno.ELOOP:
            raise corrupt(path, "it is a symbolic link") from error
        raise unreadable(path, error) from error
    # Before it becomes a file: of a directory none can be made, and its descriptor would stay open.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise corrupt(path, "it is not a plain file")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _read(path: Path, file: BufferedReader, max_bytes: int = _CHUNK_BYTES) -> bytes:
    try:
        return file.read(max_bytes)
    except OSError as error:
        raise unreadable(path, error) from error


def _check_open_size(path: Path, file: BufferedReader, expected_bytes: int) -> None:
    size_bytes = os.fstat(file.fileno()).st_size
    if size_bytes != expected_bytes:
        raise corrupt(path, f"expected {expected_bytes} bytes, found {size_bytes}")


def corrupt(path: Path, reason: str) -> ArtifactError:
    """Returns the error for a file that is not what it should be."""
    return ArtifactError(f"{path} is corrupt: {reason}; restore it or publish again")


def unreadable(path: Path, error: Exception) -> ArtifactError:
    """Returns the error for what the operating system did not let be read."""
    return ArtifactError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}")
