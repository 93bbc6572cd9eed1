"""Objects in a directory of the file system.

A file is written under a temporary name, and gets its own by a hard link, which the kernel makes
only where nothing stands; a directory gets its own by a rename. Both work on every local
file system of Linux and on NFS.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from base.files import flush, new_directory
from registry.errors import StoreError
from registry.store.copying import copy_file, make_read_only, write_new
from registry.store.objects import MAX_READ_BYTES, PARTIAL, Stored


class LocalObjects:
    """Objects below a directory; see `registry.store.objects.Objects`."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.abspath(root))
        self.url = str(self._root)

    def create(self, key: str, content: bytes) -> bool:
        path = self._root / key
        with self._telling("write"):
            _make_directories(path.parent)
            # Not beside its own name: an artifact holds no file that it does not list.
            temporary = self._root / f"{PARTIAL}{secrets.token_hex(8)}"
            try:
                write_new(temporary, content)
                created = _link(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            flush(path.parent)
        return created

    def read(self, key: str) -> bytes | None:
        with self._telling("read"):
            try:
                with open(self._root / key, "rb") as file:
                    content = file.read(MAX_READ_BYTES + 1)
            except (FileNotFoundError, NotADirectoryError):
                return None
        if len(content) > MAX_READ_BYTES:
            raise StoreError(
                f"{self._root / key} has more than {MAX_READ_BYTES} bytes; nothing that a store "
                "reads whole has: restore it"
            )
        return content

    def read_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        contents = {key: self.read(key) for key in keys}
        return {key: content for key, content in contents.items() if content is not None}

    def names(self, key: str) -> list[str]:
        with self._telling("read"):
            try:
                names = os.listdir(self._root / key)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(name for name in names if not name.startswith(PARTIAL))

    @contextmanager
    def staging(self, source: Path) -> Iterator[Path]:
        """Beside where the directory is going to be, whatever the source: its files move there."""
        staged = self._root / "artifacts" / f"{PARTIAL}{secrets.token_hex(8)}"
        try:
            with self._telling("write"):
                _make_directories(staged.parent)
                staged.mkdir()
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def stage_file(self, source: Path, target: Path) -> None:
        with self._telling("write"):
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_file(source, target)

    def add_directory(self, key: str, staged: Path, last: str) -> bool:
        path = self._root / key
        with self._telling("write"):
            if path.is_dir():
                return False
            _make_directories(path.parent)
            try:
                with new_directory(path) as assembled:
                    _link_tree(staged, assembled)
            except FileExistsError as error:
                if not path.is_dir():
                    raise StoreError(f"cannot write to {path}: {error.strerror}") from error
                return False
        return True

    def touch(self, key: str, last: str) -> None:
        with self._telling("write"), suppress(FileNotFoundError):
            os.utime(self._root / key)

    def path(self, key: str) -> Path | None:
        return self._root / key

    def download(self, key: str, target: Path) -> None:
        with self._telling("read"):
            copy_file(self._root / key, target)

    def measure(self, key: str) -> Stored | None:
        with self._telling("read"):
            return _measure(self._root, self._root / key)

    def leftovers(self) -> list[Stored]:
        found = []
        with self._telling("read"):
            for folder, folders, files in os.walk(self._root):
                partial = [name for name in [*folders, *files] if name.startswith(PARTIAL)]
                folders[:] = [name for name in folders if name not in partial]
                found += [_measure(self._root, Path(folder, name)) for name in partial]
        return [stored for stored in found if stored is not None]

    def remove(self, stored: Stored, is_used: Callable[[], bool]) -> bool:
        path = self._root / stored.key
        # Under such a name at once: whoever looks sees all of it or nothing.
        doomed = path
        if not path.name.startswith(PARTIAL):
            doomed = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
        with self._telling("write"), suppress(FileNotFoundError):
            if doomed != path:
                path.rename(doomed)
            if is_used():
                doomed.rename(path)
                return False
            if doomed.is_dir():
                shutil.rmtree(doomed)
            else:
                doomed.unlink()
        return True

    @contextmanager
    def _telling(self, action: str) -> Iterator[None]:
        """Makes one line of what the operating system refuses."""
        try:
            yield
        except OSError as error:
            raise StoreError(_in_words(self._root, action, error)) from error


def _in_words(root: Path, action: str, error: OSError) -> str:
    where = error.filename2 or error.filename or root
    advice = {
        errno.ENOSPC: "make room, then try again",
        errno.EDQUOT: "the quota is used up: make room, then try again",
        errno.EROFS: "name a store that can be written",
        errno.EACCES: f"you may not {action} there: name another store or have its owner let you",
        errno.EEXIST: "a file is in the way: name another store",
        errno.ENOTDIR: "a file is in the way: name another store",
        errno.ENAMETOOLONG: "choose a shorter name or version",
    }.get(error.errno or 0, "look at the file system there")
    return f"cannot {action} the store {root}: {where}: {error.strerror or error}; {advice}"


def _make_directories(path: Path) -> None:
    """Makes a directory and those missing above it, each of them on the disk."""
    missing = []
    while not path.is_dir() and path != path.parent:
        missing.append(path)
        path = path.parent
    for made in reversed(missing):
        made.mkdir(exist_ok=True)
        flush(made.parent)


def _link(temporary: Path, path: Path) -> bool:
    """Gives a file its name unless that is taken; whether it did."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # On NFS the answer to a link that was made may be lost, and the call repeated.
        return temporary.stat().st_nlink == 2
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise StoreError(
                f"the file system of {path.parent} has no hard links, by which a store publishes; "
                "keep the store on another one"
            ) from error
        raise
    return True


def _link_tree(source: Path, target: Path) -> None:
    """Gives all files of a directory that is the store's own a second name, and makes no copy."""
    for folder, folders, files in os.walk(source):
        twin = target / Path(folder).relative_to(source)
        for name in folders:
            (twin / name).mkdir()
        for name in files:
            make_read_only(Path(folder, name))
            os.link(Path(folder, name), twin / name)


def _measure(root: Path, path: Path) -> Stored | None:
    """Sums up what may be changing, or going, meanwhile."""
    sizes, times = [], []
    paths = [path]
    for folder, folders, files in os.walk(path):
        paths += [Path(folder, name) for name in [*folders, *files]]
    for each in paths:
        with suppress(FileNotFoundError):
            status = each.lstat()
            sizes.append(0 if each.is_dir() else status.st_size)
            times.append(status.st_mtime)
    if not times:
        return None
    modified = datetime.fromtimestamp(max(times), UTC)
    return Stored(path.relative_to(root).as_posix(), sum(sizes), modified)
