"""Layers of anything but the files of an artifact are refused, and nothing is left of them."""

import gzip
import io
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.oci.documents import LayoutError
from registry.oci.example_layout import (
    SIGNATURE,
    ExampleLayer,
    archive,
    contents,
    make_artifact,
    raw,
    raw_layers,
    tar,
    tar_gzip,
    write_layout,
)
from registry.oci.importing import import_layout

Layers = Callable[[list[tuple[str, bytes]]], list[ExampleLayer]]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "artifact")


def refuse(layers: list[ExampleLayer], directory: Path, message: str) -> None:
    """Checks that layers are refused in one line and that nothing is written beside the layout."""
    layout = write_layout(directory / "layout", layers)
    before = contents(directory)
    with pytest.raises(LayoutError, match=message) as caught:
        import_layout(layout, directory / "new" / "again")
    assert len(str(caught.value).splitlines()) == 1
    assert contents(directory) == before
    assert not (directory / "new").exists()


PATHS = {
    "../escaped": "expected a relative path",
    "programs/../../escaped": "expected a relative path",
    "/tmp/escaped": "expected a relative path",
    "//escaped": "expected a relative path",
    "programs/./x": "expected a relative path",
    "programs//x": "expected a relative path",
    "programs\\x": "expected a relative path",
    "././README.md": "expected a relative path",
    "notes.txt": "the artifact does not list it among its",
    "readme.md": "the artifact does not list it among its",
    "README.md\n": "the artifact does not list it among its",
    "README.md/x": "the artifact does not list it among its",
    "programs": "the artifact does not list it among its",
    "signatures/x.sig": "the artifact does not list it among its",
    "signatures/0123456789abcdef.sig/x": "the artifact does not list it among its",
    "signatures/0123456789ABCDEF.sig": "the artifact does not list it among its",
    "README.md": "it is there twice",
    "artifact.pb": "it is there twice",
    SIGNATURE: "it is there twice",
}


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("form", ["raw", "tar", "tar+gzip"])
def test_path_that_is_no_file_of_the_artifact_is_refused(
    artifact: Path, tmp_path: Path, form: str, path: str
) -> None:
    content = contents(artifact).get(path, b"x")
    make = {
        "raw": lambda: raw(path, content),
        "tar": lambda: tar(archive([(path, content)])),
        "tar+gzip": lambda: tar_gzip(archive([(path, content)])),
    }
    layers = [*raw_layers(artifact), make[form]()]
    refuse(layers, tmp_path, PATHS[path])


KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.CONTTYPE: "a contiguous file",
    tarfile.GNUTYPE_SPARSE: "a sparse file of GNU tar",
    b"D": "an entry of type b'D'",
    b"V": "an entry of type b'V'",
}


@pytest.mark.parametrize("kind", KINDS, ids=repr)
@pytest.mark.parametrize("position", ["before", "after"])
def test_entry_that_is_no_plain_file_is_refused(
    artifact: Path, tmp_path: Path, kind: bytes, position: str
) -> None:
    def edit(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, "../../etc/passwd"

    entry = archive([("README.md", b"")], tarfile.USTAR_FORMAT, edit)[:512]
    held = archive(contents(artifact).items())
    end = len(held.rstrip(b"\0"))
    end += -end % 512
    content = entry + held if position == "before" else held[:end] + entry + held[end:]
    refuse([tar(content)], tmp_path, f"holds {KINDS[kind]} at 'README.md'; expected plain files")


def test_long_names_of_gnu_tar_are_refused(artifact: Path, tmp_path: Path) -> None:
    content = archive([("x" * 101, b"")], tarfile.GNU_FORMAT)
    refuse([*raw_layers(artifact), tar(content)], tmp_path, "holds a long name of GNU tar")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"path": "../escaped"}, "'../escaped' in layer .* is refused: expected a relative path"),
        ({"path": "artifact.pb"}, "'artifact.pb' in layer .* is refused: it is there twice"),
        ({"path": "a\0b"}, "the artifact does not list it"),
        ({"linkpath": "/etc/passwd"}, "an extended header with the key 'linkpath'"),
        ({"GNU.sparse.major": "1"}, "an extended header with the key 'GNU.sparse.major'"),
        ({"SCHILY.xattr.user.x": "1"}, "an extended header with the key 'SCHILY.xattr.user.x'"),
        ({"uname": "x" * 9000}, "an extended header of 9\\d{3} bytes; at most 8192"),
        ({"size": "-1"}, "holds a file of size '-1'; expected a number"),
        ({"size": "0x10"}, "holds a file of size '0x10'; expected a number"),
        ({"size": "9" * 30}, "holds a file of size '9+'; expected a number"),
        ({"size": "999999999999"}, "it has 999999999999 bytes; the artifact lists 9"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_extended_header_is_held_to_paths_and_sizes(
    artifact: Path, tmp_path: Path, headers: dict[str, str], message: str
) -> None:
    def edit(info: tarfile.TarInfo) -> None:
        info.pax_headers = headers

    files = contents(artifact)
    readme = archive([("README.md", files.pop("README.md"))], tarfile.PAX_FORMAT, edit)
    layers = [raw(path, content) for path, content in files.items()]
    refuse([*layers, tar(readme)], tmp_path, message)


def test_global_extended_header_is_refused(artifact: Path, tmp_path: Path) -> None:
    written = io.BytesIO()
    with tarfile.open(
        fileobj=written, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "README.md"}
    ):
        pass
    refuse([*raw_layers(artifact), tar(written.getvalue())], tmp_path, "a global extended header")


def test_more_directories_than_any_artifact_has_are_refused(artifact: Path, tmp_path: Path) -> None:
    content = archive([("programs/", b"")] * 1001)
    refuse([*raw_layers(artifact), tar(content)], tmp_path, "more than 1000 directories")


def bomb(begin: bytes, num_zeros: int) -> ExampleLayer:
    """A compressed layer of some bytes and then zeros, about a thousandth of their size."""
    stream = zlib.compressobj(9, wbits=31)
    packed = [stream.compress(begin)]
    packed += [stream.compress(bytes(2**20)) for _ in range(num_zeros // 2**20)]
    packed.append(stream.flush())
    return ExampleLayer("tar+gzip", b"".join(packed), b"", None)


def header(path: str, size: int) -> bytes:
    info = tarfile.TarInfo(path)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (header("README.md", 2**28), "it has 268435456 bytes; the artifact lists 9"),
        (header("artifact.pb", 2**28), "'artifact.pb' in layer .* is refused: it is there twice"),
        (header("other", 2**40), "the artifact does not list it"),
        (bytes(1024), "holds more than an archive; expected nothing after its end"),
        (b"x", "is no tar archive"),
    ],
    ids=["listed", "descriptor", "unlisted", "after the end", "no archive"],
)
def test_decompression_bomb_is_refused_at_once(
    artifact: Path, tmp_path: Path, begin: bytes, message: str
) -> None:
    layers = [*raw_layers(artifact), bomb(begin, 2**26)]
    if b"README" in begin:
        layers = [layer for layer in layers if layer.path != "README.md"]
    tracemalloc.start()
    try:
        refuse(layers, tmp_path, message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**24


def test_descriptor_is_searched_for_in_a_bounded_part_of_archives(
    artifact: Path, tmp_path: Path
) -> None:
    held = tar(archive(contents(artifact).items()))
    import_layout(write_layout(tmp_path / "found", [held]), tmp_path / "again")
    # With their headers, 64 MiB.
    fillers = [tar_gzip(archive([("x", bytes(2**22 - 512))]))] * 16
    layers = [bomb(header("x", 2**40), 2**26), *fillers, held]
    refuse(layers, tmp_path, "holds no artifact: artifact.pb and artifact.pb.sha256 missing, or")


@pytest.mark.parametrize("name", ["artifact.pb", "artifact.pb.sha256"])
def test_descriptor_that_is_too_large_is_refused(artifact: Path, tmp_path: Path, name: str) -> None:
    held = archive(contents(artifact).items())
    refuse([bomb(header(name, 2**25), 2**25), tar(held)], tmp_path, rf"{name} of layer .* at most")


def test_signatures_are_few_and_small(artifact: Path, tmp_path: Path) -> None:
    many = [raw(f"signatures/{number:016x}.sig", b"x") for number in range(64)]
    refuse([*raw_layers(artifact), *many], tmp_path, "at most 64 signatures of 1048576 bytes")
    large = raw(f"signatures/{7:016x}.sig", bytes(2**20 + 1))
    refuse([*raw_layers(artifact), large], tmp_path / "large", "at most 64 signatures of 1048576")


def gzip_layer(content: bytes, decompressed: bytes) -> ExampleLayer:
    return ExampleLayer("tar+gzip", content, decompressed, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda packed: packed[:-9], "is not gzip: it ends early"),
        (lambda packed: packed[:-8] + bytes(8), "is not gzip: Error -3"),
        (lambda packed: packed + b"x", "goes on after the end of its gzip member"),
        (lambda packed: packed + packed, "goes on after the end of its gzip member"),
        (lambda packed: packed + gzip.compress(b""), "goes on after the end of its gzip member"),
        (lambda packed: b"x" + packed, "is not gzip: Error -3 .*incorrect header check"),
        (lambda packed: b"", "is not gzip: it ends early"),
    ],
)
def test_gzip_is_one_whole_member(
    artifact: Path, tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    held = archive(contents(artifact).items())
    refuse([gzip_layer(change(gzip.compress(held)), held)], tmp_path, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: held[:-9000], "does not end with two empty blocks|ends early"),
        (lambda held: held[:700], "ends early"),
        (lambda held: held[:512], "early"),
        (lambda held: b"", "is no tar archive: it ends early"),
        (lambda held: held + b"x", "holds more than an archive"),
        (lambda held: held + bytes(2**20), "holds more than an archive"),
        (lambda held: held[:100] + b"x" + held[101:], "a header's checksum is wrong"),
    ],
)
def test_archive_is_whole(
    artifact: Path, tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    held = change(archive(contents(artifact).items()).rstrip(b"\0").ljust(10240, b"\0"))
    refuse([tar(held)], tmp_path, message)


def test_decompressed_digest_is_verified(artifact: Path, tmp_path: Path) -> None:
    held = archive(contents(artifact).items())
    layer = gzip_layer(gzip.compress(held), held + b"x")
    refuse([layer], tmp_path, "is corrupt: decompressed it is sha256:.*; the config says sha256:")


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("tar+zstd", "v1.tar.zstd' cannot be read; expected application/vnd.cncf.model.KIND.v1"),
        ("zip", "cannot be read; expected .* a FORM of raw, tar, tar.gzip"),
        ("raw+gzip", "cannot be read"),
        ("tar+gzip ", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_layer_of_another_form_is_refused(
    artifact: Path, tmp_path: Path, form: str, message: str
) -> None:
    layers = [*raw_layers(artifact), ExampleLayer(form, b"x", b"x", "README.md")]
    refuse(layers, tmp_path, message)
