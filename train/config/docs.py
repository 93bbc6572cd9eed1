"""Writes the tables of `docs/configuration.md` from the schema: `./bazelw run //train/config:docs`.

What stands above the mark is written by hand and stays.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from base.files import write_file
from train.config.reference import Leaf, Part, parts

PAGE = Path("docs/configuration.md")

MARK = "<!-- What follows is written by `./bazelw run //train/config:docs`. -->"


def page(written: str) -> str:
    """Returns the page with its tables as they should be.

    Args:
        written: The page as it is.

    Raises:
        ValueError: It has no mark, or more than one.
    """
    if written.count(MARK) != 1:
        raise ValueError(f"{PAGE}: expected one line {MARK}")
    head, _, _ = written.partition(MARK)
    return "\n".join([head + MARK, "", *(line for part in parts() for line in _lines(part))])


def _lines(part: Part) -> Iterator[str]:
    yield f"## {_title(part)}"
    yield ""
    if part.purpose:
        yield part.purpose + (" Null by default: the section may be missing." * part.absent)
        yield ""
    yield "| key | value | default | |"
    yield "| --- | --- | --- | --- |"
    yield from map(_row, part.leaves)
    yield ""


def _title(part: Part) -> str:
    path = f"`{part.path}`" if part.path else "Top level"
    return f"{path}, {part.condition.replace(': ', ' `')}`" if part.condition else path


def _row(leaf: Leaf) -> str:
    default = "" if leaf.default is None else f"`{leaf.default}`"
    cells = (f"`{leaf.path}`", leaf.accepted, default, leaf.description)
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def main() -> None:
    """Writes the page in the workspace."""
    path = Path(os.environ["BUILD_WORKSPACE_DIRECTORY"], PAGE)
    write_file(path, page(path.read_text()).encode())


if __name__ == "__main__":
    main()
