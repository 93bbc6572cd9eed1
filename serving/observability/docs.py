"""Writes the tables of docs/observability.md: `./bazelw run //serving/observability:docs`.

What stands above the mark is written by hand and stays.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from base.files import write_file
from serving.observability.families import Family
from serving.observability.metric_table import GROUPS

PAGE = Path("docs/observability.md")

MARK = "<!-- What follows is written by `./bazelw run //serving/observability:docs`. -->"


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
    return "\n".join([head + MARK, "", *_lines()])


def _lines() -> Iterator[str]:
    for title, families in GROUPS.items():
        yield f"### {title}"
        yield ""
        yield "| metric | kind | labels | |"
        yield "| --- | --- | --- | --- |"
        yield from map(_row, families)
        yield ""


def _row(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return f"| `{family.full_name}` | {family.kind} | {labels} | {family.meaning} |"


def main() -> None:
    """Writes the page in the workspace."""
    path = Path(os.environ["BUILD_WORKSPACE_DIRECTORY"], PAGE)
    write_file(path, page(path.read_text()).encode())


if __name__ == "__main__":
    main()
