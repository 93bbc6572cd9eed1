"""What a store asks of the place where it keeps things, whether a directory or a bucket.

There is one primitive that makes something visible: to create a key that is absent, with all of its
content. It is what makes versions appear whole, once and for one writer only.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

# What is not yet complete has such a name, and no reader sees it.
PARTIAL = ".partial-"

# A record or a descriptor is a few kilobytes; what is larger is not read.
MAX_READ_BYTES = 16 * 2**20


class Stored(NamedTuple):
    """Something that lies in a store.

    Attributes:
        key: where it lies: names joined by '/'.
        size_bytes: of all files below the key.
        modified: when the newest of them was written.
        upload: of an upload that was never completed, what the server calls it; else empty.
    """

    key: str
    size_bytes: int
    modified: datetime
    upload: str = ""


class Objects(Protocol):
    """Files by key. A key is names joined by '/', each checked before it gets here.

    Every method raises StoreError, in one line, for a place that cannot be read or written.
    """

    url: str

    def create(self, key: str, content: bytes) -> bool:
        """Makes a file with all of its content, unless there is one; whether it did."""

    def read(self, key: str) -> bytes | None:
        """Returns the content of a file of at most MAX_READ_BYTES; None: there is none."""

    def read_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Returns the content by key of those files that there are."""

    def names(self, key: str) -> list[str]:
        """Returns the sorted names directly below a key, but for those that are not complete."""

    def staging(self, source: Path) -> AbstractContextManager[Path]:
        """Makes an empty directory, which `add_directory` takes; removed in the end.

        Args:
            source: What is to be copied there; one near it costs the least.
        """

    def stage_file(self, source: Path, target: Path) -> None:
        """Brings a file, which nobody may have changed by the end, into a staging directory."""

    def add_directory(self, key: str, staged: Path, last: str) -> bool:
        """Stores a staged directory, unless it is there already; whether it did.

        Args:
            key: Where to.
            staged: The directory, of `staging`.
            last: Its file without which readers do not see the directory.
        """

    def touch(self, key: str, last: str) -> None:
        """Has a directory count as new for who removes what is old; `last` as it was added."""

    def path(self, key: str) -> Path | None:
        """Returns where a key lies in the file system; None: it is somewhere else."""

    def download(self, key: str, target: Path) -> None:
        """Writes a file of any size to a new path."""

    def measure(self, key: str) -> Stored | None:
        """Returns what lies at and below a key; None: nothing does."""

    def leftovers(self) -> list[Stored]:
        """Returns what is not complete, whether its writer was killed or is still at work."""

    def remove(self, stored: Stored, is_used: Callable[[], bool]) -> bool:
        """Removes all that lies at and below a key, if anything does.

        Args:
            stored: What to remove.
            is_used: Asked at the last moment at which it can still stay.

        Returns:
            Whether it is gone.
        """
