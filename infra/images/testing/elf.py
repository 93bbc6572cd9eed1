"""What a program or library for Linux asks its loader for: read from its bytes, of 64 bits."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_MAGIC = b"\x7fELF\x02\x01"  # of 64 bits, little-endian

# Where the header says where the program headers are, and the sizes of one and of their table.
_TABLE_OFFSET_AT, _ENTRY_SIZE_AT = 32, 54
_PROGRAM_HEADER = struct.Struct("<II6Q")
_DYNAMIC_ENTRY = struct.Struct("<QQ")

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 15, 29


class Wants(NamedTuple):
    """What a file wants of the loader.

    Attributes:
        needed: Names of libraries.
        paths: Where they are looked for before the system's folders, as "$ORIGIN/lib".
    """

    needed: tuple[str, ...]
    paths: tuple[str, ...]


def wants(content: bytes) -> Wants | None:
    """Reads what a file wants; None: it is no such program or library.

    Reference: System V ABI, chapter 5, "Program Loading and Dynamic Linking".
    """
    if not content.startswith(_MAGIC):
        return None
    headers = list(_program_headers(content))
    entries = [
        entry
        for kind, offset, _, size in headers
        if kind == _PT_DYNAMIC
        for entry in _dynamic_entries(content, offset, size)
    ]
    strings = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
    start = next(
        (
            strings - address + offset
            for kind, offset, address, size in headers
            if kind == _PT_LOAD and address <= strings < address + size
        ),
        0,
    )

    def texts(*tags: int) -> Iterator[str]:
        for tag, value in entries:
            if tag in tags:
                yield content[start + value : content.index(b"\0", start + value)].decode()

    paths = (path for text in texts(_DT_RPATH, _DT_RUNPATH) for path in text.split(":"))
    return Wants(tuple(texts(_DT_NEEDED)), tuple(paths))


def _program_headers(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yields type, offset in the file, address and size in the file."""
    (offset,) = struct.unpack_from("<Q", content, _TABLE_OFFSET_AT)
    size, count = struct.unpack_from("<HH", content, _ENTRY_SIZE_AT)
    for number in range(count):
        kind, _, at, address, _, in_file, _, _ = _PROGRAM_HEADER.unpack_from(
            content, offset + number * size
        )
        yield kind, at, address, in_file


def _dynamic_entries(content: bytes, offset: int, size: int) -> Iterator[tuple[int, int]]:
    for tag, value in _DYNAMIC_ENTRY.iter_unpack(content[offset : offset + size]):
        if tag == _DT_NULL:
            return
        yield tag, value
