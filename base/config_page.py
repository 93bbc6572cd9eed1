"""A page of documentation with a table for each section of a configuration.

What stands above a mark is written by hand and stays; what follows is made from the sections.
"""

from collections.abc import Iterable, Iterator

from base.config_reference import Leaf, Part


def page(written: str, mark: str, parts: Iterable[Part]) -> str:
    """Returns a page with its tables as they should be.

    Args:
        written: The page as it is.
        mark: The line after which they stand.
        parts: What they are of.

    Raises:
        ValueError: It has no such line, or more than one.
    """
    if written.count(mark) != 1:
        raise ValueError(f"expected one line {mark}")
    head, _, _ = written.partition(mark)
    return "\n".join([head + mark, "", *(line for part in parts for line in _lines(part))])


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
