"""A package's files, as dpkg itself would unpack them; packages are made by dpkg-deb."""

import subprocess
from pathlib import Path

import pytest

from infra.bazel.oci.archive import Entry
from infra.bazel.oci.debian import Deb, base_entries, debian_entries, read_deb

CONTROL = """\
Package: example
Version: 1:2.0-3
Architecture: all
Maintainer: Nobody <nobody@localhost>
Description: one line
 and another one
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Of a package, before it is packed."""
    root = tmp_path / "root"
    files = {
        "DEBIAN/control": CONTROL,
        "DEBIAN/postinst": "#!/bin/sh\nexit 1\n",
        "bin/tool": "#!/bin/sh\n",
        "lib/x86_64-linux-gnu/libx.so.1": "library",
        "usr/share/man/man1/tool.1": "manual",
        "usr/share/doc/example/changelog": "long",
        "usr/share/doc/example/copyright": "MIT",
        "usr/share/ca-certificates/mozilla/B.crt": "BBB\n",
        "usr/share/ca-certificates/mozilla/A.crt": "AAA\n\n",
    }
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (root / "DEBIAN/postinst").chmod(0o755)
    (root / "bin/tool").chmod(0o4755)
    (root / "lib/x86_64-linux-gnu/libx.so").symlink_to("libx.so.1")
    return root


@pytest.fixture(params=["xz", "gzip"])
def deb(root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Deb:
    file = tmp_path / "example.deb"
    command = ["dpkg-deb", "--root-owner-group", f"-Z{request.param}", "--build", root, file]
    subprocess.run(command, check=True, capture_output=True)
    return read_deb(file)


def by_path(entries: object) -> dict[str, Entry]:
    assert hasattr(entries, "__iter__")
    return {entry.path: entry for entry in entries}


def test_files_are_below_usr_and_none_sets_its_user(deb: Deb) -> None:
    files = by_path(deb.entries)
    tool = files["usr/bin/tool"]
    assert (tool.content, tool.mode) == (b"#!/bin/sh\n", 0o755)
    assert files["usr/lib/x86_64-linux-gnu/libx.so"].link == "libx.so.1"
    assert not {"bin", "lib", "bin/tool"} & files.keys()


def test_licences_stay_and_manuals_do_not(deb: Deb) -> None:
    files = by_path(deb.entries)
    assert files["usr/share/doc/example/copyright"].content == b"MIT"
    assert not [path for path in files if "man1" in path or "changelog" in path]


def test_fields_are_read(deb: Deb) -> None:
    assert deb.field("Package") == "example"
    assert deb.field("Version") == "1:2.0-3"
    assert deb.field("Depends") == ""


def test_a_root_has_certificates_users_and_who_is_in_it(deb: Deb) -> None:
    files = by_path(debian_entries([deb], uid=4242))
    assert files["etc/ssl/certs/ca-certificates.crt"].content == b"AAA\nBBB\n"
    status = files["var/lib/dpkg/status.d/example"].content
    assert status == CONTROL.encode()
    passwd = files["etc/passwd"].content
    assert isinstance(passwd, bytes)
    assert "app:x:4242:4242" in passwd.decode()
    assert files["bin"].link == "usr/bin"
    assert files["tmp"].mode == 0o1777


def test_base_entries_say_each_path_once() -> None:
    paths = [entry.path for entry in base_entries(1)]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"!<arch>\n"])
def test_what_is_no_package_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.deb"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.deb is no Debian package"):
        read_deb(file)
