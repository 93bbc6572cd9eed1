"""How a line of the log looks: JSON for machines, columns and colours for people."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from base.text import printable
from serving.observability.request_log import RequestLine, request_fields

Fields = dict[str, Any]


def render_json(entry: object) -> bytes:
    """Returns a request, or the fields of an event, as one line of JSON."""
    fields = _fields_of(entry)
    fields["ts"] = rfc3339(fields["ts"])
    return _to_json(None, "", fields) + b"\n"


def render_console(*, colors: bool) -> Callable[[object], bytes]:
    """Returns a function that makes of a request or an event a line to be read by people."""
    to_text = structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False, pad_event_to=16)

    def render(entry: object) -> bytes:
        fields = {key: value for key, value in _fields_of(entry).items() if value != ""}
        exception = fields.pop("exception", "")
        # Text of others holds no commands for a terminal.
        for key, value in fields.items():
            fields[key] = printable(value) if isinstance(value, str) else value
        fields["timestamp"] = f"{datetime.fromtimestamp(fields.pop('ts')):%H:%M:%S.%f}"[:-3]
        lines = [str(to_text(None, "", fields)), *map(printable, exception.splitlines())]
        return "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")

    return render


def rfc3339(seconds: float) -> str:
    """Returns a time since 1970 as RFC 3339 has it, in UTC and to the microsecond."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def _fields_of(entry: object) -> Fields:
    if isinstance(entry, RequestLine):
        return request_fields(entry)
    assert isinstance(entry, dict)  # of an event
    return {key: entry.pop(key) for key in ("ts", "level", "event")} | entry


def _dumps(fields: Fields, default: Callable[[Any], Any]) -> bytes:
    try:
        return orjson.dumps(fields, default=default)
    except TypeError:  # integers beyond 64 bits, and text that has no encoding
        return json.dumps(fields, default=default).encode()


_to_json = structlog.processors.JSONRenderer(serializer=_dumps)
