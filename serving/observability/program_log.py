"""Where all that the program says goes: requests, its own events, and what libraries log.

While it is open, `structlog.get_logger().info("model_ready", model="digits")` is a line from
wherever it is called, and so is whatever is logged by Python's own `logging`.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import structlog

from serving.observability.line_writer import LineWriter
from serving.observability.log_config import LogConfig
from serving.observability.log_lines import render_console, render_json
from serving.observability.request_log import LEVELS

_STDERR = 2


@contextmanager
def program_log(config: LogConfig, descriptor: int = _STDERR) -> Iterator[LineWriter]:
    """Writes lines to an open file, by default stderr; at the end all that waits is written.

    Args:
        config: which lines, and in which format.
        descriptor: of the file.
    """
    people = config.format == "console" or (config.format == "auto" and os.isatty(descriptor))
    render = render_console(colors=os.isatty(descriptor)) if people else render_json
    writer = LineWriter(descriptor, render, config.max_waiting_lines)
    root, handler = logging.getLogger(), _Handler(writer)
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[config.level])
    logging.captureWarnings(True)
    _configure_structlog(writer, config)
    try:
        yield writer
    finally:
        structlog.reset_defaults()
        logging.captureWarnings(False)
        root.setLevel(level)
        root.handlers[:] = handlers
        writer.close()


def _configure_structlog(writer: LineWriter, config: LogConfig) -> None:
    def put(logger: object, method: str, fields: Any) -> NoReturn:
        writer.put(fields)
        raise structlog.DropEvent  # the line is made later, in the writer's thread

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[config.level]),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt=None, key="ts"),
            structlog.processors.format_exc_info,
            put,
        ],
    )


class _Handler(logging.Handler):
    """Brings what is logged by Python's own `logging` among the others."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Puts one record. It is made text here, since what it holds may change."""
        fields = {
            "ts": record.created,
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        self._writer.put(fields)
