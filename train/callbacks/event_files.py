"""Curves for TensorBoard, in event files: `tensorboard --logdir DIR` shows them.

https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto
"""

import io
import os
import re
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event as EventProto
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from train.callbacks.appended_file import AppendedFile
from train.callbacks.scalars import scalars_of
from train.events import Evaluated, Event

_VERSION = "brain.Event:2"
_NAME = re.compile(r"events\.out\.tfevents\.(\d{10})\..*")


class EventFiles:
    """A `Record` of what has numbers. Each process adds a file, which TensorBoard reads in turn.

    A file begins with the step from which what former ones have is of no account, so nothing of
    them has to be changed.

    Args:
        directory: Of the files; made with the first.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self._step = 0
        self._has_begun = False
        self._file: AppendedFile | None = None
        self._evaluated: set[tuple[str, int]] = set()

    def go_on(self, step: int) -> None:
        """See `Record`."""
        self._step, self._has_begun = step, False
        self._evaluated = {(what, at) for what, at in self._evaluated if at <= step}
        self._opened()

    def write(self, event: Event, step: int, time_s: float) -> None:
        """See `Record`."""
        if isinstance(event, Evaluated):
            if (event.measured_on, step) in self._evaluated:  # the end's was on the way, too
                return
            self._evaluated.add((event.measured_on, step))
        if scalars := scalars_of(event):
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
            summary = Summary(value=values)
            entry = EventProto(wall_time=time_s, step=step, summary=summary)
            self._opened().append(_framed(entry))

    def flush(self) -> None:
        """See `Record`."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """See `Record`."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> AppendedFile:
        """Returns this process's file, after the mark that later steps of others do not count."""
        if self._file is None:
            self._file = AppendedFile(self._directory / _next_name(self._directory))
            self._file.append(_framed(EventProto(wall_time=time.time(), file_version=_VERSION)))
        if not self._has_begun:
            start = SessionLog(status=SessionLog.START)
            entry = EventProto(wall_time=time.time(), step=self._step + 1, session_log=start)
            self._file.append(_framed(entry))
            self._has_begun = True
        return self._file


def _framed(entry: EventProto) -> bytes:
    """Returns an entry as a file has it, with its length and checksums."""
    buffer = io.BytesIO()
    RecordWriter(buffer).write(entry.SerializeToString())
    return buffer.getvalue()


def _next_name(directory: Path) -> str:
    """Returns a name after those that are there, as TensorBoard reads files by their names.

    Others begin with the time, and clocks may be set back.
    """
    names = os.listdir(directory) if directory.is_dir() else ()
    numbers = [int(found[1]) for found in map(_NAME.fullmatch, names) if found is not None]
    return f"events.out.tfevents.{max(numbers, default=0) + 1:010}.{os.getpid()}"
