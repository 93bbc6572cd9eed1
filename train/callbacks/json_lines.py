"""All that a run tells, one JSON object a line."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from base.files import write_file
from train.callbacks.appended_file import AppendedFile
from train.events import Event


class JsonLines:
    """A `Record`: each line has `time_s`, `event`, `step`, and what else the event has.

    Numbers that JSON does not have, infinity and NaN, are null.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path):
        self._path = path
        self._step = 0
        self._file: AppendedFile | None = None

    def go_on(self, step: int) -> None:
        """See `Record`."""
        self.close()
        self._step, self._file = step, None
        self._opened()

    def write(self, event: Event, step: int, time_s: float) -> None:
        """See `Record`."""
        entry = {"time_s": time_s, "event": type(event).__name__, "step": step, **asdict(event)}
        line = json.dumps(_in_json(entry), allow_nan=False)
        self._opened().append(line.encode() + b"\n")

    def flush(self) -> None:
        """See `Record`."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """See `Record`."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> AppendedFile:
        """Returns the file, from which later steps are gone; tried anew if it failed before."""
        if self._file is None:
            _drop_after(self._path, self._step)
            self._file = AppendedFile(self._path)
        return self._file


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines that are whole; of a killed process or machine the last may not be.

    Raises:
        OSError: It cannot be read.
    """
    for line in path.read_bytes().split(b"\n")[:-1]:
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                yield entry


def _drop_after(path: Path, step: int) -> None:
    """Replaces a file, at once, by one without half lines and what will be told again."""
    if not path.exists():
        return
    lines = [
        json.dumps(entry)
        for entry in read_json_lines(path)
        if entry.get("to_step", entry.get("step", 0)) <= step and not entry.get("is_final")
    ]
    content = "".join(f"{line}\n" for line in lines).encode()
    if content != path.read_bytes():
        write_file(path, content)


def _in_json(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {key: _in_json(item) for key, item in value.items()}
        case list() | tuple():
            return [_in_json(item) for item in value]
        case Path():
            return str(value)
    return value
