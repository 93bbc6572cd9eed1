"""One line for each request: who asked for what, how it ended, and where the time went.

It never holds a tensor's values, so the message of a request that was refused for them is not there
either: the caller has it.
"""

import time
from typing import Any, NamedTuple, Protocol

from serving.core.errors import Kind
from serving.core.outcome import Outcome
from serving.core.request import Call, Timings
from serving.observability.log_config import LogConfig
from serving.observability.model_series import OK

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

# What went wrong on the caller's side, or was ended from there, is nobody's alarm here.
_LEVEL_OF = dict.fromkeys(Kind, "info") | {
    Kind.OVERLOADED: "warning",
    Kind.UNAVAILABLE: "warning",
    Kind.DEADLINE: "warning",
    Kind.INTERNAL: "error",
}

# Of a name that nobody here has chosen.
_MAX_NAME = 128


class RequestLine(NamedTuple):
    """What is kept of a request until its line is written: no tensors."""

    level: str
    call: Call
    version: str
    status: str
    reason: str
    message: str
    bytes_out: int
    examples: int
    retries: int
    ended: float
    duration_s: float
    spent: Timings


class Writer(Protocol):
    """Who writes lines, such as a `LineWriter`."""

    def put(self, entry: object) -> None:
        """Has a line written, without waiting."""


class RequestLog:
    """Decides which requests have a line.

    Args:
        writer: writes them.
        config: which.
    """

    def __init__(self, writer: Writer, config: LogConfig) -> None:
        self._writer = writer
        self._rate, self._slow_s = config.success_rate, config.slow_ms / 1000
        self._due = 0.0  # lines, since the last one
        self._least = LEVELS[config.level]

    def done(self, outcome: Outcome) -> None:
        """See `Observer`."""
        error = outcome.error
        if error is None:
            if self._least > LEVELS["info"] or not self._is_chosen(outcome):
                return
            level, status, reason, message = "info", OK, "", ""
        else:
            level = _LEVEL_OF[error.kind]
            if LEVELS[level] < self._least:
                return
            status, reason = error.kind.value, error.reason
            message = "" if error.kind is Kind.INVALID else error.message
        self._writer.put(
            RequestLine(
                level,
                outcome.call,
                outcome.version,
                status,
                reason,
                message,
                outcome.bytes_out,
                outcome.batch_size,
                outcome.retries,
                outcome.ended,
                outcome.ended - outcome.started,
                outcome.spent,
            )
        )

    def _is_chosen(self, outcome: Outcome) -> bool:
        """Whether a request that was answered has a line: one in so many, and every slow one."""
        if outcome.ended - outcome.started >= self._slow_s:
            return True
        self._due += self._rate
        if self._due < 1:
            return False
        self._due -= 1
        return True


def request_fields(line: RequestLine) -> dict[str, Any]:
    """Returns what a line says, by name, and when it was, in seconds since 1970."""
    call, spent = line.call, line.spent
    fields = {
        # From the clock that never jumps to the one that people read.
        "ts": time.time() - time.monotonic() + line.ended,
        "level": line.level,
        "event": "request",
        "request_id": call.request_id,
        "model": call.model[:_MAX_NAME],
        "version": line.version or call.version[:_MAX_NAME],
        "protocol": call.protocol.value,
        "client": call.client,
        "status": line.status,
        "reason": line.reason,
        "bytes_in": call.size_bytes,
        "bytes_out": line.bytes_out,
        "queue_ms": _milliseconds(spent.queue_s),
        "infer_ms": _milliseconds(spent.infer_s),
        "total_ms": _milliseconds(line.duration_s),
        "examples": line.examples,
        "batch_size": spent.batch_size,
        "cached": spent.cached,
        "replica": spent.replica,
        "retries": line.retries,
    }
    return fields | {"message": line.message} if line.message else fields


def _milliseconds(seconds: float) -> float:
    """Returns milliseconds, to the microsecond."""
    return round(seconds * 1000, 3)
