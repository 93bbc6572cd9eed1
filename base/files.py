"""Files and directories that are there whole or not at all, whatever ends the program."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory


def write_file(path: Path, content: bytes) -> None:
    """Writes a file, which others see as it was before or whole; see `replacing`.

    Raises:
        OSError: It cannot be written, and is as it was.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lets others see a file as it was before, or whole.

        with replacing(path) as temporary:
            save_file(tensors, temporary)

    Yields:
        Where to write it: beside `path`, which it replaces once it is on the disk.

    Whatever the block raises, an interrupt too, what it wrote is removed. What a process leaves
    that is killed, `PATH.partial`, the next one overwrites.

    Raises:
        OSError: It cannot be written, and is as it was.
    """
    temporary = path.with_name(f"{path.name}.partial")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Makes a directory that appears with all that is in it.

        with new_directory(path) as assembled:
            (assembled / "weights").write_bytes(weights)

    Args:
        path: Where nothing stands, or an empty directory. Missing parents are made.

    Yields:
        Where to write what is to be in it: a directory beside `path`, which gets that name once
        all of it is on the disk.

    Whatever the block raises, an interrupt too, all that was made is removed. A process that is
    killed may leave `.partial-*` beside `path`, which is in nobody's way and may be removed.

    Raises:
        FileExistsError: Something has come to stand at `path`.
        OSError: It cannot be written.
        ValueError: Its name is not one that a file can have.
    """
    path = path.absolute()
    # Not named after `path`, whose name may be as long as a name can be.
    assembled = path.with_name(f".partial-{secrets.token_hex(8)}")
    with ExitStack() as undo:
        make_directory(path.parent, undo)
        undo.callback(shutil.rmtree, assembled, ignore_errors=True)
        assembled.mkdir()
        yield assembled
        flush_tree(assembled)
        _rename_to_new(assembled, path)
        undo.pop_all()
    flush(path.parent)


def _rename_to_new(directory: Path, path: Path) -> None:
    try:
        directory.rename(path)
    except OSError as error:  # which one, depends on what stands there
        raise FileExistsError(error.errno, error.strerror, str(path)) from error


def flush(path: Path) -> None:
    """Returns when the disk has what was written to a file, or which names a directory holds.

    Raises:
        OSError: It could not be written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(directory: Path) -> None:
    """Returns when the disk has a directory with all that is in it.

    Raises:
        OSError: Something could not be written.
    """
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            flush(Path(folder, name))
        flush(Path(folder))


def make_directory(path: Path, undo: ExitStack) -> None:
    """Makes a directory and those missing above it, unless it is there.

    One after another: `Path.mkdir(parents=True)` calls itself for each, and does not say which it
    made when it fails half-way.

    Args:
        path: Of the directory.
        undo: Removes those made here again, but for what others have put something into by then.

    Raises:
        OSError: It cannot be made.
        ValueError: Its name is not one that a file can have.
    """
    # A link to nowhere is there, and nothing can be made in it.
    missing = [made for made in (path, *path.parents) if not os.path.lexists(made)]
    for made in reversed(missing):
        with suppress(FileExistsError):  # another program was quicker
            made.mkdir()
            undo.callback(_remove_if_empty, made)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()


def rehearse_directory(path: Path) -> None:
    """Finds out whether a directory can be made, with those missing above it; makes none.

    The trial is in a directory of its own beside what is there already, so that two programs that
    start at once do not see each other's.

    Raises:
        OSError: It cannot be made.
        ValueError: Its name is not one that a file can have.
    """
    path = path.absolute()
    ancestor = next(parent for parent in path.parents if os.path.lexists(parent))
    with TemporaryDirectory(prefix=".trial-", dir=ancestor) as trial, ExitStack() as undo:
        make_directory(Path(trial, path.relative_to(ancestor)), undo)
