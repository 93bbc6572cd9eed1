"""Records: small protobuf messages, kept as JSON under keys that are created once.

They are read as strictly as everything of others is: no unknown field, no repeated key, no value of
another type, and not more than a few kilobytes of them.
"""

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from registry.errors import StoreError
from registry.store import keys
from registry.store.objects import Objects

MAX_RECORD_BYTES = 2**20

Record = TypeVar("Record", bound=Message)


def create(objects: Objects, key: str, record: Message) -> bool:
    """Writes a record under a key that is absent.

    Returns:
        Whether the record stands there now because of this call. False: another one does.

    Raises:
        StoreError: It cannot be written, or is larger than what is read back.
    """
    content = encoded(record)
    if len(content) > MAX_RECORD_BYTES:
        raise StoreError(
            f"the record {key} takes {len(content)} bytes; at most {MAX_RECORD_BYTES} are read "
            "back: give fewer words"
        )
    # A server may have done what was asked and its answer been lost: then it says, when it is asked
    # again, that the key is taken - by this very content, times in nanoseconds and all.
    return objects.create(key, content) or objects.read(key) == content


def read(objects: Objects, key: str, kind: type[Record]) -> Record | None:
    """Reads a record; None: there is none.

    Raises:
        StoreError: It is not a record of that kind, or cannot be read.
    """
    content = objects.read(key)
    return None if content is None else _decoded(f"{objects.url}/{key}", content, kind)


def read_many(objects: Objects, wanted: Iterable[str], kind: type[Record]) -> dict[str, Record]:
    """Reads those records that there are, by key; see `read`."""
    contents = objects.read_many(wanted)
    return {key: _decoded(f"{objects.url}/{key}", text, kind) for key, text in contents.items()}


def highest(objects: Objects, key: str) -> int:
    """Returns the number of the last record of a sequence; 0: it has none."""
    numbers = (keys.sequence(name) for name in objects.names(key))
    return max((number for number in numbers if number is not None), default=0)


def encoded(record: Message) -> bytes:
    """Returns a record as JSON for people and programs, the same for the same record."""
    text = json_format.MessageToJson(record, preserving_proto_field_name=True, indent=2)
    return f"{text}\n".encode()


def _decoded(where: str, content: bytes, kind: type[Record]) -> Record:
    record = kind()
    try:
        if len(content) > MAX_RECORD_BYTES:
            raise ValueError(f"it has {len(content)} bytes, more than {MAX_RECORD_BYTES}")
        json_format.Parse(content.decode(), record)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(
            f"{where} is no {kind.DESCRIPTOR.name} of this program's format: {reason}; restore it, "
            "or use the program that wrote it"
        ) from error
    return record
