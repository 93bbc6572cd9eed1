"""Standard output that a program outlives: a full disk, a pipe that nobody reads any more."""

import io
import os
import sys


class Output(io.TextIOBase):
    """Writes to standard output while it can; what has no encoding is written as an escape.

    Attributes:
        lost: Why something could not be written, if so. Nothing is tried after that.
    """

    def __init__(self) -> None:
        self._stream = sys.stdout
        self.lost: OSError | None = None
        if isinstance(self._stream, io.TextIOWrapper):
            self._stream.reconfigure(errors="backslashreplace")

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has an attribute
        """Of standard output."""
        return self._stream.encoding

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Of standard output."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Writes, or not."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Flushes, or not."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.lost = self.lost or error
        # What is buffered would fail again, in the end too.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)
