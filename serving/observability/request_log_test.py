"""What is written down of requests and events, read as a machine reads it."""

import json
import logging
import os
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from serving.core.errors import Kind, ServingError
from serving.core.outcome import Outcome
from serving.core.request import Timings
from serving.observability.line_writer import LineWriter
from serving.observability.log_config import LogConfig
from serving.observability.metrics import Metrics
from serving.observability.program_log import program_log
from serving.observability.request_log import RequestLog
from serving.observability.telemetry import Telemetry
from serving.observability.testing.outcomes import call, logits, model, outcome

Said = Callable[[Telemetry], object]


def text_of(path: Path, say: Said, **config: Any) -> str:
    """What is in the file of a log to which something was said."""
    checked = LogConfig(**config)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        with program_log(checked, descriptor) as writer:
            say(Telemetry(Metrics({}), RequestLog(writer, checked)))
    finally:
        os.close(descriptor)
    return path.read_text()


def lines_of(path: Path, say: Said, **config: Any) -> list[dict[str, Any]]:
    """The same, line by line, without times."""
    lines = [json.loads(line) for line in text_of(path, say, **config).splitlines()]
    assert all(line.pop("ts").endswith("Z") for line in lines)
    return lines


def refused(kind: Kind, message: str = "words", reason: str = "") -> Outcome:
    return outcome(model(), error=ServingError(kind, message, reason=reason), timings=Timings())


def test_a_request_is_one_line_of_facts(tmp_path: Path) -> None:
    (line,) = lines_of(tmp_path / "log", lambda t: t.done(outcome(model(), retries=1)))
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": "r-1",
        "model": "digits",
        "version": "1.0.0",
        "protocol": "grpc",
        "client": "192.0.2.7",
        "status": "ok",
        "reason": "",
        "bytes_in": 100,
        "bytes_out": 12,
        "queue_ms": 125.0,
        "infer_ms": 62.5,
        "total_ms": 250.0,
        "examples": 1,
        "batch_size": 4,
        "cached": False,
        "replica": "digits-0",
        "retries": 1,
    }


def test_the_time_is_that_of_the_end_in_utc(tmp_path: Path) -> None:
    ended = time.monotonic() - 3600
    text = text_of(tmp_path / "log", lambda t: t.done(outcome(model(), ended=ended)))
    written = json.loads(text)["ts"]
    expected = datetime.now(UTC) - timedelta(seconds=3600)
    assert written.endswith("Z") and len(written) == len("2026-11-29T12:00:00.000000Z")
    assert abs(datetime.fromisoformat(written) - expected) < timedelta(seconds=60)


def test_no_tensor_is_written_down(tmp_path: Path) -> None:
    secret = "271828.5"

    def say(telemetry: Telemetry) -> None:
        telemetry.done(outcome(model(), outputs=logits([float(secret), 1, 2])))
        telemetry.done(refused(Kind.INVALID, f"input 'x' holds {secret}; expected less"))

    text = text_of(tmp_path / "log", say)
    assert len(text.splitlines()) == 2
    assert secret not in text


@pytest.mark.parametrize("kind", Kind)
def test_a_failed_request_always_has_a_line(tmp_path: Path, kind: Kind) -> None:
    said = refused(kind, "incident 7", reason="why")
    (line,) = lines_of(tmp_path / "log", lambda t: t.done(said), success_rate=0.0)
    assert (line["status"], line["reason"]) == (kind.value, "why")
    assert line.get("message") == (None if kind is Kind.INVALID else "incident 7")
    whose = {"internal": "error", "overloaded": "warning", "unavailable": "warning"}
    assert line["level"] == (whose | {"deadline": "warning"}).get(kind.value, "info")


def test_of_answered_requests_a_share_has_a_line_and_every_slow_one(tmp_path: Path) -> None:
    def say(telemetry: Telemetry) -> None:
        for number in range(1000):
            duration_s = 0.5 if number % 10 == 0 else 0.001
            telemetry.done(outcome(model(), duration_s=duration_s))

    lines = lines_of(tmp_path / "log", say, success_rate=0.1, slow_ms=500)
    durations = [line["total_ms"] for line in lines]
    assert durations.count(500.0) == 100
    assert durations.count(1.0) == pytest.approx(90, abs=1)
    assert lines_of(tmp_path / "none", say, success_rate=0.0, slow_ms=501) == []


def test_lines_below_the_level_are_not_written(tmp_path: Path) -> None:
    def say(telemetry: Telemetry) -> None:
        telemetry.done(outcome(model()))
        telemetry.done(refused(Kind.NOT_FOUND))
        telemetry.done(refused(Kind.OVERLOADED))
        telemetry.event("model_ready", model="digits")
        telemetry.event("breaker_opened", model="digits")
        logging.getLogger("somebody").info("hello")

    lines = lines_of(tmp_path / "log", say, level="warning")
    assert [line.get("status", line["event"]) for line in lines] == ["overloaded", "breaker_opened"]


def test_events_and_libraries_are_lines_among_the_others(tmp_path: Path) -> None:
    def say(telemetry: Telemetry) -> None:
        telemetry.event("model_ready", model="digits", took_s=0.5, path=Path("/a"), big=2**70)
        structlog.get_logger().warning("from_afar", what="\ud800 no character")
        logging.getLogger("grpc").error("it is %s", "bad")
        warnings.warn("a library's", stacklevel=1)
        try:
            raise ValueError("in words")
        except ValueError:
            logging.getLogger("us").exception("it broke")

    first, second, third, fourth, fifth = lines_of(tmp_path / "log", say)
    assert [*first][:2] == ["level", "event"]  # after the time, before what differs
    assert first == {
        "level": "info",
        "event": "model_ready",
        "model": "digits",
        "took_s": 0.5,
        "path": f"{Path('/a')!r}",
        "big": 2**70,
    }
    assert second == {"level": "warning", "event": "from_afar", "what": "\ud800 no character"}
    assert third == {"level": "error", "event": "it is bad", "logger": "grpc"}
    assert fourth["logger"] == "py.warnings"
    assert fifth["event"] == "it broke"
    assert fifth["exception"].startswith("Traceback")
    assert fifth["exception"].endswith("ValueError: in words")


def test_afterwards_all_is_as_it_was(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    assert lines_of(tmp_path / "log", lambda t: None, level="error") == []
    assert (root.handlers, root.level) == before
    assert not structlog.is_configured()


def test_what_others_name_makes_no_line_and_no_command(tmp_path: Path) -> None:
    wild = 'a\n{"event": "request"}\x1b[31m' + "x" * 1000
    said = outcome(
        None, call=call(model=wild, version=wild), error=ServingError(Kind.NOT_FOUND, "no")
    )
    (line,) = lines_of(tmp_path / "log", lambda t: t.done(said))
    assert line["model"] == line["version"] == wild[:128]
    text = text_of(tmp_path / "console", lambda t: t.done(said), format="console")
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text


def test_for_people_a_line_is_short_and_a_traceback_is_readable(tmp_path: Path) -> None:
    def say(telemetry: Telemetry) -> None:
        telemetry.done(outcome(model(), timings=Timings()))
        try:
            raise ValueError("in words")
        except ValueError:
            structlog.get_logger().error("it_broke", exc_info=True)

    request, event, *traceback = text_of(tmp_path / "log", say, format="console").splitlines()
    assert "request" in request and "model=digits" in request and "status=ok" in request
    assert "replica" not in request, "what is empty is left out"
    assert "it_broke" in event
    assert traceback[0] == "Traceback (most recent call last):"
    assert traceback[-1] == "ValueError: in words"


def test_a_terminal_gets_the_form_for_people() -> None:
    reading, terminal = os.openpty()
    try:
        with program_log(LogConfig(), terminal):
            structlog.get_logger().info("started")
        assert b"\x1b[" in os.read(reading, 1000)
    finally:
        os.close(reading)
        os.close(terminal)


def test_all_that_waits_is_written_at_the_end_and_in_order(tmp_path: Path) -> None:
    def say(telemetry: Telemetry) -> None:
        for number in range(5000):
            telemetry.done(outcome(model(), call=call(request_id=str(number))))

    lines = lines_of(tmp_path / "log", say)
    assert [line["request_id"] for line in lines] == [str(number) for number in range(5000)]


def test_a_reader_that_takes_nothing_costs_lines_and_not_time() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing, lambda entry: b"x" * 4096, max_lines=10)
    try:
        for _ in range(1000):  # which would be 4 MiB, and a pipe holds 64 KiB
            writer.put(None)
        assert writer.lost >= 900
    finally:
        os.close(reading)  # whoever waits to write is told that nobody reads
        writer.close()
        os.close(writing)
    assert writer.lost <= 1000


def test_a_file_that_does_not_wait_gets_every_line() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    writer = LineWriter(writing, lambda entry: b"%6d\n" % entry, max_lines=100_000)
    for number in range(50_000):  # 350 kB, and a pipe holds 64 KiB
        writer.put(number)
    with os.fdopen(reading) as pipe:
        read = [int(pipe.readline()) for _ in range(50_000)]
    writer.close()
    os.close(writing)
    assert read == [*range(50_000)]
    assert writer.lost == 0


def test_a_line_that_cannot_be_made_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    writer = LineWriter(descriptor, lambda entry: b"%d\n" % entry, max_lines=10)  # type: ignore[str-bytes-safe]
    for entry in (1, "two", 3):
        writer.put(entry)
    writer.close()
    os.close(descriptor)
    first, second, third = path.read_text().splitlines()
    assert (first, third) == ("1", "3")
    assert "could not be made" in second
