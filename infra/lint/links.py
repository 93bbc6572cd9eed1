"""Links of Markdown pages: each leads to a file that there is, and each anchor to a heading of it.

Other sites are not asked: what is checked does not depend on a network.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator

_BLOCK = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_OF_HEADING = re.compile(r"\[([^]]*)\]\([^)]*\)|`")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:")


def dead_links(files: Iterable[str], read: Callable[[str], str]) -> list[str]:
    """Returns a sentence for each link that leads nowhere.

    Args:
        files: All of the tree, by their paths from its root.
        read: Returns the text of one of them.
    """
    files = set(files)
    folders = {folder for path in files for folder in _folders(path)}
    anchors: dict[str, set[str]] = {}

    def anchors_of(path: str) -> set[str]:
        if path not in anchors:
            anchors[path] = set(_anchors(read(path)))
        return anchors[path]

    problems = []
    for page in sorted(path for path in files if path.endswith(".md")):
        for link in _links(read(page)):
            target, _, anchor = link.partition("#")
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target or page))
            path = path if target else page
            if path not in files and path not in folders:
                problems.append(f"{page}: {link}: there is no {path}")
            elif anchor and path.endswith(".md") and anchor not in anchors_of(path):
                problems.append(f"{page}: {link}: {path} has no heading of that name")
    return problems


def _folders(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path
    yield "."


def _links(page: str) -> list[str]:
    text = _CODE.sub("", _BLOCK.sub("", page))
    return [link for link in _LINK.findall(text) if not _ELSEWHERE.match(link)]


def _anchors(page: str) -> Iterator[str]:
    """The names that GitHub gives to headings: words with dashes between, and a number if again."""
    seen: dict[str, int] = {}
    for heading in _HEADING.findall(_BLOCK.sub("", page)):
        words = _OF_HEADING.sub(r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        count = seen.get(name, 0)
        seen[name] = count + 1
        yield f"{name}-{count}" if count else name
