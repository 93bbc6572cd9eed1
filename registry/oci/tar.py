"""The headers of tar archives, read strictly: plain files and directories, and nothing clever.

`tarfile` of the standard library follows all that tar has become: links, devices, sparse files, and
extended headers of any length, which it holds in memory. Of what comes from elsewhere only this is
accepted: ustar, with the extended headers of pax for a long path or a large size.

Reference: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format".
"""

import re
from typing import NamedTuple

from registry.oci.documents import LayoutError
from registry.oci.streams import Readable, read_whole

BLOCK_BYTES = 512

# Of a path as long as the system allows, and times.
_MAX_EXTENDED_BYTES = 8 * 2**10

_POSIX, _GNU = b"ustar\x0000", b"ustar  \x00"
_FILE, _OLD_FILE, _DIRECTORY, _EXTENDED = b"0", b"\0", b"5", b"x"
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"7": "a contiguous file",
    b"g": "a global extended header",
    b"L": "a long name of GNU tar",
    b"K": "a long link of GNU tar",
    b"S": "a sparse file of GNU tar",
}

_NUMBER = re.compile(rb" *([0-7]+)[ \0]*")
# "LENGTH KEY=VALUE\n", where LENGTH counts all of it.
_LENGTH = re.compile(rb"([1-9][0-9]{0,5}) ")
_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")
_FOLLOWED = {"path", "size"}
# They say nothing of a file's name or content.
_PASSED_OVER = {"mtime", "atime", "ctime", "uid", "gid", "uname", "gname"}


class Entry(NamedTuple):
    """A plain file of `size` bytes, which follow, or a directory."""

    path: str
    size: int
    is_directory: bool


def next_entry(source: Readable, where: str) -> Entry | None:
    """Reads the headers of the next file or directory.

    Args:
        source: An archive, where headers begin.
        where: What an error calls it.

    Returns:
        None at the end of the archive; what is left of `source` is padding.

    Raises:
        LayoutError: It is no tar archive, ends early, or what is next is neither a plain file nor a
            directory.
    """
    header = _read_header(source, where)
    if header is None:
        return None
    extended: dict[str, str] = {}
    if header[156:157] == _EXTENDED:
        extended = _read_extended(source, _number(header, where), where)
        header = _read_header(source, where)
        if header is None:
            raise LayoutError(f"{where} ends after an extended header; export it again")
    kind = header[156:157]
    path = extended.get("path", _path(header, where))
    if kind not in (_FILE, _OLD_FILE, _DIRECTORY):
        raise LayoutError(
            f"{where} holds {_REFUSED.get(kind, f'an entry of type {kind!r}')} at {path[:80]!r}; "
            "expected plain files and directories, written by tar --format=pax"
        )
    size = int(extended.get("size", _number(header, where)))
    if kind == _DIRECTORY and size:
        raise LayoutError(f"{where} holds a directory {path[:80]!r} of {size} bytes; expected none")
    return Entry(path, size, kind == _DIRECTORY)


def padding(size: int) -> int:
    """Returns how many bytes follow a file of `size` bytes up to the next header."""
    return -size % BLOCK_BYTES


def _read_header(source: Readable, where: str) -> bytes | None:
    header = read_whole(source, BLOCK_BYTES)
    if header == bytes(BLOCK_BYTES):
        if read_whole(source, BLOCK_BYTES) == bytes(BLOCK_BYTES):
            return None
        raise LayoutError(f"{where} is no tar archive: it does not end with two empty blocks")
    if len(header) < BLOCK_BYTES:
        raise LayoutError(f"{where} is no tar archive: it ends early")
    match = _NUMBER.fullmatch(header[148:156])
    if not match or int(match[1], 8) != sum(header[:148]) + sum(b" " * 8) + sum(header[156:]):
        raise LayoutError(f"{where} is no tar archive: a header's checksum is wrong")
    if header[257:265] not in (_POSIX, _GNU):
        raise LayoutError(f"{where} is no ustar archive; write it with tar --format=pax")
    return header


def _number(header: bytes, where: str) -> int:
    match = _NUMBER.fullmatch(header[124:136])
    if not match:
        raise LayoutError(
            f"{where} holds a file whose size is not octal; write it with tar --format=pax"
        )
    return int(match[1], 8)


def _path(header: bytes, where: str) -> str:
    name = header[:100].split(b"\0")[0]
    # GNU tar keeps other things there.
    prefix = header[345:500].split(b"\0")[0] if header[257:265] == _POSIX else b""
    return _text(prefix + b"/" + name if prefix else name, where)


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise LayoutError(f"{where} holds a name that is not UTF-8: {content[:80]!r}") from error


def _read_extended(source: Readable, size: int, where: str) -> dict[str, str]:
    """Reads an extended header of pax, which describes the next entry."""
    if size > _MAX_EXTENDED_BYTES:
        raise LayoutError(
            f"{where} holds an extended header of {size} bytes; at most {_MAX_EXTENDED_BYTES}"
        )
    content = read_whole(source, size + padding(size))[:size]
    found: dict[str, str] = {}
    while content:
        record, content = _split_record(content, where)
        key, _, value = record.partition("=")
        if key in found or key not in _FOLLOWED | _PASSED_OVER:
            raise LayoutError(
                f"{where} holds an extended header with {'two of' if key in found else 'the key'} "
                f"{key[:80]!r}; expected one each of {', '.join(sorted(_FOLLOWED | _PASSED_OVER))}"
            )
        found[key] = value
    if not _SIZE.fullmatch(found.get("size", "0")):
        raise LayoutError(f"{where} holds a file of size {found['size'][:80]!r}; expected a number")
    return {key: value for key, value in found.items() if key in _FOLLOWED}


def _split_record(content: bytes, where: str) -> tuple[str, bytes]:
    match = _LENGTH.match(content)
    length = int(match[1]) if match else 0
    record = content[match.end() : length] if match else b""
    if length > len(content) or not record.endswith(b"\n") or b"=" not in record:
        raise LayoutError(f"{where} holds a broken extended header; export it again")
    return _text(record[:-1], where), content[length:]
