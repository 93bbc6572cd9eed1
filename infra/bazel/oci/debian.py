"""Files of Debian packages as entries of a layer: a small Debian without a package manager.

A .deb is an `ar` archive, see deb(5), of which `data.tar` is put in place. No maintainer script is
run; what they would have done for the packages here is done by `base_entries`. Below
/var/lib/dpkg/status.d each package says what it is, by which scanners of images find it.
"""

import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from infra.bazel.oci.archive import Entry

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_BYTES = 60

# Whoever wants to read them reads them elsewhere; licences stay.
_LEFT_OUT = (
    "usr/share/doc-base/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/locale/",
    "usr/share/man/",
    "usr/share/menu/",
    "usr/share/bug/",
)
_DOCUMENTS, _LICENCE = "usr/share/doc/", "copyright"

# Folders that are links to those below /usr, as on every Debian since 12.
_MERGED = ("bin", "lib", "lib64", "sbin")

_CERTIFICATES = "usr/share/ca-certificates/"
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"

_PYTHON = "usr/bin/python3.11"

_WRITABLE = 0o1777


class Deb(NamedTuple):
    """A package.

    Attributes:
        control: What it says about itself, as in "Package: libc6".
        entries: Its files.
    """

    control: str
    entries: Sequence[Entry]

    def field(self, name: str) -> str:
        """Returns a field of its control file, or nothing if it has none of that name."""
        for line in self.control.splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
        return ""


def read_deb(file: Path) -> Deb:
    """Reads a package.

    Raises:
        ValueError: It is none, or holds a device or another thing that no package here has.
    """
    members = dict(_members(file))
    control = data = None
    for name, content in members.items():
        if name.startswith("control.tar"):
            control = _control(content)
        elif name.startswith("data.tar"):
            data = list(_data(content, file.name))
    if control is None or data is None:
        raise ValueError(f"{file.name} is no Debian package: it holds {', '.join(members)}")
    return Deb(control, data)


def debian_entries(debs: Iterable[Deb], uid: int) -> Iterator[Entry]:
    """Yields all that a root file system of some packages holds.

    Args:
        debs: Python's, its libraries, certificates, time zones and whatever else.
        uid: Of the user as whom programs run, and of its group.
    """
    certificates, has_python = [], False
    for deb in debs:
        name = deb.field("Package")
        yield Entry(f"var/lib/dpkg/status.d/{name}", f"{deb.control.strip()}\n".encode())
        for entry in deb.entries:
            yield entry
            has_python = has_python or entry.path == _PYTHON
            if entry.path.startswith(_CERTIFICATES) and isinstance(entry.content, bytes):
                certificates.append(entry)
    bundle = b"".join(
        one.content.strip() + b"\n"
        for one in sorted(certificates)
        if isinstance(one.content, bytes)
    )
    if certificates:
        yield Entry(_BUNDLE, bundle)
    if has_python:
        yield Entry("usr/bin/python3", link=PurePosixPath(_PYTHON).name)
    yield from base_entries(uid)


def base_entries(uid: int) -> Iterator[Entry]:
    """Yields what maintainer scripts would have made: users, links and folders."""
    for name in _MERGED:
        yield Entry(name, link=f"usr/{name}")
        yield Entry(f"usr/{name}", mode=0o755)
    users = (
        "root:x:0:0:root:/root:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        f"app:x:{uid}:{uid}:app:/home/app:/usr/sbin/nologin\n"
    )
    groups = f"root:x:0:\ntty:x:5:\nnogroup:x:65534:\napp:x:{uid}:\n"
    yield Entry("etc/passwd", users.encode())
    yield Entry("etc/group", groups.encode())
    yield Entry("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    yield Entry("etc/localtime", link="/usr/share/zoneinfo/Etc/UTC")
    yield Entry("home/app", mode=0o755)
    for name in ("tmp", "var/tmp", "run"):
        yield Entry(name, mode=_WRITABLE)


def _members(file: Path) -> Iterator[tuple[str, bytes]]:
    """The files of an `ar` archive."""
    content = memoryview(file.read_bytes())
    if content[: len(_AR_MAGIC)] != _AR_MAGIC:
        raise ValueError(f"{file.name} is no Debian package: it does not begin as one")
    at = len(_AR_MAGIC)
    while at + _AR_HEADER_BYTES <= len(content):
        header = bytes(content[at : at + _AR_HEADER_BYTES])
        size = int(header[48:58])
        at += _AR_HEADER_BYTES
        yield header[:16].decode().strip().rstrip("/"), bytes(content[at : at + size])
        at += size + size % 2


def _control(content: bytes) -> str:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            if member.name.lstrip("./") == "control":
                found = archive.extractfile(member)
                assert found is not None
                return found.read().decode()
    raise ValueError("a Debian package without a control file")


def _data(content: bytes, where: str) -> Iterator[Entry]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            path = _in_place(member.name)
            if path is None or _is_left_out(path, member):
                continue
            if member.isdir():
                # Where all may write, all may; a group of Debian's has nobody in it here.
                yield Entry(path, mode=member.mode if member.mode & 0o1000 else member.mode & 0o755)
            elif member.issym():
                yield Entry(path, link=member.linkname)
            elif member.isfile() or member.islnk():
                found = archive.extractfile(member)
                assert found is not None
                # Nobody in an image becomes another: no setuid.
                yield Entry(path, found.read(), mode=member.mode & 0o755)
            else:
                raise ValueError(f"{where} holds {member.name}, which is no plain file")


def _in_place(name: str) -> str | None:
    """Where a file of a package goes: below /usr, for what is in the folders that are links."""
    parts = PurePosixPath(name).parts
    if not parts:
        return None
    if parts[0] in _MERGED:
        # The folder itself is made by `base_entries`.
        return None if len(parts) == 1 else str(PurePosixPath("usr", *parts))
    return str(PurePosixPath(*parts))


def _is_left_out(path: str, member: tarfile.TarInfo) -> bool:
    if path.startswith(_DOCUMENTS):
        # Packages of one source often have one licence, and links to it.
        return not (path.endswith(f"/{_LICENCE}") or member.issym())
    return f"{path}/".startswith(_LEFT_OUT)
