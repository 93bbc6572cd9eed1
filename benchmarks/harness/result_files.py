"""Where a run's results go: to files that are new, whole, and there all together or not at all."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from base.files import flush, make_directory, rehearse_directory
from base.program import from_user


def results_directory(out: Path | None) -> Path:
    """Returns where results go: `out` as the user sees it, else the workspace's own folder."""
    if out is not None:
        return from_user(out)
    return Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", ""), "benchmarks", "results")


def require_writable(directory: Path) -> None:
    """Checks that results can be written to a directory that need not be there; makes nothing.

    Raises:
      OSError: They cannot.
    """
    rehearse_directory(directory / "results")


def write_new(
    directory: Path, name: str, contents: Callable[[str], Mapping[str, bytes]]
) -> list[Path]:
    """Writes files under a name that none there has: `name`, or `name-2` and so on.

    Whoever else writes there at the same time gets another name, and whoever reads there sees no
    file that is half written. Where writing fails or is interrupted, nothing is left.

    Args:
      directory: made if it is missing.
      name: of the files, without suffix.
      contents: the name that was free -> a file's content for each suffix.

    Returns:
      The files.

    Raises:
      OSError: They cannot be written.
    """
    with ExitStack() as undo:
        make_directory(directory, undo)
        for free in _free_names(directory, name):
            files = contents(free)
            with suppress(FileExistsError):  # another run was quicker
                paths = _write_together(directory, free, files)
                break
        undo.pop_all()
    return paths


def _free_names(directory: Path, name: str) -> Iterator[str]:
    taken = {path.name.split(".")[0] for path in directory.glob(f"{name}*")}
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return (name for name in names if name not in taken)


def _write_together(directory: Path, name: str, contents: Mapping[str, bytes]) -> list[Path]:
    """Writes all files elsewhere, then links each to its name, which fails where that is taken."""
    paths = [directory / f"{name}{suffix}" for suffix in contents]
    with TemporaryDirectory(prefix=".", dir=directory) as whole, ExitStack() as undo:
        for path, content in zip(paths, contents.values(), strict=True):
            Path(whole, path.name).write_bytes(content)
            flush(Path(whole, path.name))
        for path in paths:
            os.link(Path(whole, path.name), path)
            undo.callback(path.unlink)
        undo.pop_all()
    return paths
