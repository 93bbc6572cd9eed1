"""Bytes that come one chunk after another, limited, hashed and decompressed in bounded memory."""

import hashlib
import zlib
from typing import Protocol

from registry.oci.documents import LayoutError, digest_of

CHUNK_BYTES = 2**20

# Window bits of zlib for gzip's header and checksum, RFC 1952.
_GZIP = 16 + zlib.MAX_WBITS


class Readable(Protocol):
    """What can be read once, from the beginning to the end."""

    def read(self, num_bytes: int, /) -> bytes:
        """Returns the next bytes: at least one and at most `num_bytes`, none at the end."""
        ...


class Part:
    """The next bytes of something, and no more of it.

    Args:
        source: What they are of.
        size: How many they are.
        where: What an error calls it.
    """

    def __init__(self, source: Readable, size: int, where: str) -> None:
        self._source = source
        self._where = where
        self.remaining = size

    def read(self, num_bytes: int, /) -> bytes:
        """Returns the next bytes, as every `Readable`.

        Raises:
            LayoutError: The source ends before they do.
        """
        content = self._source.read(min(num_bytes, self.remaining))
        if not content and self.remaining and num_bytes:
            raise LayoutError(f"{self._where} ends {self.remaining} bytes early; export it again")
        self.remaining -= len(content)
        return content


class Hashed:
    """Something with the SHA-256 of what was read of it so far."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, num_bytes: int, /) -> bytes:
        """Returns the next bytes, as every `Readable`."""
        content = self._source.read(num_bytes)
        self._hash.update(content)
        return content

    def digest(self) -> str:
        """Returns the SHA-256 as OCI writes it."""
        return digest_of(self._hash.hexdigest())


class Gunzipped:
    """What one member of gzip holds, which is all that there is.

    However much it is once it is decompressed, no more is in memory than is asked for.

    Args:
        source: What is compressed.
        where: What an error calls it.
    """

    def __init__(self, source: Readable, where: str) -> None:
        self._source = source
        self._where = where
        self._stream = zlib.decompressobj(_GZIP)

    def read(self, num_bytes: int, /) -> bytes:
        """Returns the next bytes, as every `Readable`.

        Raises:
            LayoutError: It is not gzip, ends early, or holds more than one member.
        """
        while num_bytes and not self._stream.eof:
            compressed = self._stream.unconsumed_tail or self._source.read(CHUNK_BYTES)
            try:
                content = self._stream.decompress(compressed, num_bytes)
            except zlib.error as error:
                raise LayoutError(f"{self._where} is not gzip: {error}") from error
            if content:
                return content
            if not compressed and not self._stream.eof:
                raise LayoutError(f"{self._where} is not gzip: it ends early")
        if self._stream.eof and (self._stream.unused_data or self._source.read(1)):
            raise LayoutError(
                f"{self._where} goes on after the end of its gzip member; compress it as one"
            )
        return b""


def read_whole(source: Readable, size: int) -> bytes:
    """Returns the next `size` bytes; fewer if there are no more."""
    chunks = []
    while size and (chunk := source.read(min(size, CHUNK_BYTES))):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def skip(source: Readable, size: int) -> None:
    """Reads `size` bytes, or those that are left if they are fewer, and keeps none."""
    while size and (chunk := source.read(min(size, CHUNK_BYTES))):
        size -= len(chunk)
