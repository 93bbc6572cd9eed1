"""What a page of the documentation promises: its commands, its code, its tables.

A block without a language holds commands of a shell; others say what they are: `text` and `json`
are what a command printed, `python` is code.
"""

import re
from typing import NamedTuple

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"\s+#.*")


class Block(NamedTuple):
    """What stands between two fences.

    Attributes:
        language: "" is a shell.
        text: of all lines.
    """

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """Returns the blocks of a page, in order."""
    return [Block(*match.groups()) for match in _BLOCK.finditer(page)]


def commands(block: Block) -> list[str]:
    """Returns the commands of a shell's block, without comments; of others none."""
    lines = [] if block.language else block.text.splitlines()
    return [command for line in lines if (command := _COMMENT.sub("", line))]


def prose(page: str) -> str:
    """Returns a page without its blocks."""
    return _BLOCK.sub("", page)


def rows(page: str, header: str) -> list[list[str]]:
    """Returns the cells of the table whose header begins so.

    Raises:
        ValueError: There is no such table.
    """
    _, found, table = page.partition(f"\n| {header} |")
    if not found:
        raise ValueError(f"no table begins with {header!r}")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
