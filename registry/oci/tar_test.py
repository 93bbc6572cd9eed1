"""What the standard library writes as tar is read the same; all else ends in one clear error."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.documents import LayoutError
from registry.oci.example_layout import archive
from registry.oci.streams import read_whole, skip
from registry.oci.tar import next_entry, padding

parts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1)
paths = st.lists(parts, min_size=1, max_size=6).map("/".join)
files = st.lists(st.tuples(paths, st.binary(max_size=1500)), max_size=5)


def read(content: bytes) -> list[tuple[str, bytes]]:
    """Path and content of each file of an archive."""
    source = io.BytesIO(content)
    found = []
    while entry := next_entry(source, "archive"):
        if not entry.is_directory:
            found.append((entry.path, read_whole(source, entry.size)))
            skip(source, padding(entry.size))
    assert not source.read().strip(b"\0")
    return found


@given(files=files)
def test_archive_of_the_standard_library_is_read(files: list[tuple[str, bytes]]) -> None:
    content = archive(files, tarfile.PAX_FORMAT)
    with tarfile.open(fileobj=io.BytesIO(content)) as oracle:
        expected = [(info.name, oracle.extractfile(info).read()) for info in oracle]  # type: ignore[union-attr]
    assert read(content) == expected
    assert [path for path, _ in expected] == [path for path, _ in files]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_short_ascii_names_are_read_in_every_format(format: int) -> None:
    files = [("a", b""), ("b/c", b"x" * 512), ("d" * 99, b"y" * 513)]
    assert read(archive(files, format)) == files


def test_long_path_is_split_by_ustar() -> None:
    files = [("/".join(["x" * 60] * 3), b"content")]
    assert read(archive(files, tarfile.USTAR_FORMAT)) == files


def test_times_and_owners_of_pax_are_passed_over() -> None:
    def edit(info: tarfile.TarInfo) -> None:
        info.mtime, info.uname, info.uid = 1.5, "é", 2**40

    assert read(archive([("a", b"b")], edit=edit)) == [("a", b"b")]


@given(content=st.binary(max_size=4096))
def test_any_bytes_end_in_an_error_or_nothing(content: bytes) -> None:
    with pytest.raises(LayoutError, match="archive"):
        read(content + b"x")


@given(files=files.filter(bool), position=st.integers(0, 511), byte=st.integers(0, 255))
def test_changed_header_is_read_as_it_is_or_refused(
    files: list[tuple[str, bytes]], position: int, byte: int
) -> None:
    content = bytearray(archive(files))
    if content[position] == byte:
        return
    content[position] = byte
    # The checksum itself may be written in several ways; any other byte it covers.
    if 148 <= position < 156:
        try:
            assert read(bytes(content)) == files
        except LayoutError:
            return
    else:
        with pytest.raises(LayoutError, match="checksum"):
            read(bytes(content))


def test_size_that_is_not_octal_is_refused() -> None:
    info = tarfile.TarInfo("a")
    info.size = 8 * 2**30
    with pytest.raises(LayoutError, match="size is not octal; write it with tar --format=pax"):
        next_entry(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT)), "archive")
    entry = next_entry(io.BytesIO(info.tobuf(tarfile.PAX_FORMAT)), "archive")
    assert entry == ("a", 8 * 2**30, False)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (b"12 path=abc\n12 path=abd\n", "with two of 'path'"),
        (b"99 path=abc\n", "a broken extended header"),
        (b"5 path=abc\n", "a broken extended header"),
        (b"path=abc\n", "a broken extended header"),
        (b"9 abcdef\n", "a broken extended header"),
        (b"012 path=abc\n", "a broken extended header"),
        (b"12 path=\xff\xff\xff\n", "a name that is not UTF-8"),
        (b"12 path=abc\n\0\0\0\0", "a broken extended header"),
    ],
)
def test_extended_header_is_strict(records: bytes, message: str) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    content = info.tobuf(tarfile.USTAR_FORMAT) + records + bytes(padding(len(records)))
    with pytest.raises(LayoutError, match=message):
        read(content + archive([("a", b"")]))


def test_extended_header_of_nothing_is_refused() -> None:
    info = tarfile.TarInfo("x")
    info.type = tarfile.XHDTYPE
    header = info.tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(LayoutError, match="ends after an extended header"):
        read(header + bytes(10240))
    with pytest.raises(LayoutError, match="an entry of type b'x'"):
        read(header + header + archive([("a", b"")]))


def test_what_is_older_than_ustar_is_refused() -> None:
    info = tarfile.TarInfo("a")
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    header[257:265] = bytes(8)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(b" " * 8) + sum(header[156:]))
    with pytest.raises(LayoutError, match="is no ustar archive"):
        read(bytes(header) + bytes(1024))


def test_directory_of_some_size_is_refused() -> None:
    info = tarfile.TarInfo("a")
    info.type, info.size = tarfile.DIRTYPE, 7
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    with pytest.raises(LayoutError, match="holds a directory 'a/?' of 7 bytes; expected none"):
        read(bytes(header) + bytes(2048))
