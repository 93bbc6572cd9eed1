"""The file that makes a directory, or a prefix of a bucket, a store.

Nobody publishes into their home directory by mistake: what holds other things is no store.
"""

import json

from registry.errors import NotFoundError, StoreError
from registry.store import keys
from registry.store.objects import Objects

FORMAT = 1

_CONTENT = f"{json.dumps({'format': FORMAT})}\n".encode()


def require_store(objects: Objects) -> None:
    """Checks that there is a store that this program can read.

    Raises:
        NotFoundError: There is none.
        StoreError: Its format is another one.
    """
    content = objects.read(keys.MARKER)
    if content is None:
        raise NotFoundError(
            f"there is no store at {objects.url}: it has no {keys.MARKER}; publishing to a place "
            "that is empty makes one"
        )
    _check(objects, content)


def is_store(objects: Objects) -> bool:
    """Whether there is a store; if not, there can be one.

    Raises:
        StoreError: The place holds other things, or its format is another one.
    """
    content = objects.read(keys.MARKER)
    if content is None:
        _require_empty(objects)
        return False
    _check(objects, content)
    return True


def make_store(objects: Objects) -> None:
    """Makes a store, unless there is one, and checks that its place lets one make a key only once.

    Raises:
        StoreError: The place holds other things, has another format, or overwrites keys.
    """
    content = objects.read(keys.MARKER)
    if content is None:
        _require_empty(objects)
        objects.create(keys.MARKER, _CONTENT)
        content = objects.read(keys.MARKER) or b""
    _check(objects, content)
    # A server that does not know the condition writes the same content again, which does no harm.
    if content == _CONTENT and objects.create(keys.MARKER, _CONTENT):
        raise StoreError(
            f"the server of {objects.url} overwrites what must be created only once: it ignores "
            "'If-None-Match: *'; keep the store on one that heeds it"
        )


def _require_empty(objects: Objects) -> None:
    others = objects.names("")
    # Another publisher may have made the store between the two looks.
    if others and objects.read(keys.MARKER) is None:
        raise StoreError(
            f"{objects.url} holds {others[0]!r} and no {keys.MARKER}, so it is no store; name a "
            "store, or a place that is new or empty"
        )


def _check(objects: Objects, content: bytes) -> None:
    where = f"{objects.url}/{keys.MARKER}"
    try:
        found = json.loads(content)["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f'{where} is not {{"format": {FORMAT}}}; restore it, or name another place'
        ) from error
    if found != FORMAT:
        raise StoreError(
            f"{where} says format {str(found)[:100]}, and this program knows format {FORMAT}; use "
            "the program that made the store"
        )
