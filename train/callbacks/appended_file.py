"""A file that grows by whole entries."""

import os
from pathlib import Path


class AppendedFile:
    """Appends entries to a file; none is held back in this process, which may be killed.

    Args:
        path: Of the file; made if it is missing, as is the directory.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()

    def append(self, entry: bytes) -> None:
        """Adds an entry, or nothing.

        Raises:
            OSError: It cannot be written, on a full disk for example; the file is as it was.
        """
        try:
            rest = memoryview(entry)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(entry)

    def flush(self) -> None:
        """Returns when the disk has all entries.

        Raises:
            OSError: It could not write them.
        """
        os.fsync(self._file)

    def close(self) -> None:
        """Nothing can be added after this."""
        self._file.close()
