"""A benchmark's program ends well: interrupted, failed or done, in its words and its status."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from benchmarks.harness.machine import Machine
from benchmarks.harness.record import Record, Row, at_least
from benchmarks.harness.runner import run
from benchmarks.harness.suite import BadInputError, FailedError, Measurement, Report, Suite

# Says that it measures, waits for a signal, and would have results; `write` waits while it writes.
_PROGRAM = """
import sys, time
from base.interrupts import NOTHING_WRITTEN, exit_when_interrupted
from benchmarks.harness import result_files
from benchmarks.harness.runner import run
from benchmarks.harness.suite import Measurement, Report, Suite

def wait(*arguments):
    print("waiting", flush=True)
    time.sleep(600)

def prepare(args):
    result_files.os.link = wait
    report = Report(lambda _: (), lambda _: None, "", lambda _: [], closing=lambda _: ())
    rows = {"measure": wait, "write": lambda machine: ()}[args.during]
    return Measurement("example", (), {}, rows, report)

suite = Suite("example", "An example.", lambda parser: parser.add_argument("--during"), prepare)
with exit_when_interrupted(NOTHING_WRITTEN):
    sys.exit(run(suite, sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("during", ["measure", "write"])
def test_interrupted_run_leaves_nothing(tmp_path: Path, during: str, number: int) -> None:
    command = [sys.executable, "-c", _PROGRAM, "--during", during, "--out", tmp_path / "a" / "b"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "waiting\n"
        running.send_signal(number)
        _, stderr = running.communicate()
    assert (running.returncode, stderr) == (128 + number, "interrupted: nothing was written\n")
    assert list(tmp_path.iterdir()) == []


def _run(
    out: Path,
    *,
    rows: Callable[[Machine], Iterable[Row]] = lambda machine: (),
    plot: Callable[[Record], bytes | None] = lambda record: None,
    status: int = 0,
) -> int:
    report = Report(
        findings=lambda record: [at_least("rows", float(len(record.rows)), 1, aim=1.0)],
        closing=lambda record: [f"findings: {len(record.findings)}"],
        plot=plot,
        plot_shows="An example",
        sections=lambda record: ["## Rows"],
        status=lambda record: status,
    )
    measurement = Measurement("example", ("numpy",), {"size": 1}, rows, report)
    suite = Suite("example", "An example.", lambda parser: None, lambda args: measurement)
    return run(suite, ["--out", str(out)])


def _raise(error: Exception) -> Iterable[Row]:
    raise error


def test_failures_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path / "a", rows=lambda machine: _raise(BadInputError("no GPU"))) == 2
    assert _run(tmp_path / "a", rows=lambda machine: _raise(FailedError("a rank died"))) == 1
    assert capsys.readouterr().err == "error: no GPU\nerror: a rank died\n"
    assert list(tmp_path.iterdir()) == []


def test_lost_directory_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"

    def plot(record: Record) -> None:
        out.rmdir()
        out.touch()

    assert _run(out, plot=plot) == 1
    assert capsys.readouterr().err.startswith(f"error: cannot write results to {out}: ")


def test_status_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = Row(table="time", case={}, step="run", side="ours")
    assert _run(tmp_path, rows=lambda machine: [row], plot=lambda record: b"png", status=1) == 1
    (page,) = tmp_path.glob("*-example.md")
    assert f"![An example]({page.stem}.png)\n\n## Rows" in page.read_text()
    assert page.with_suffix(".png").read_bytes() == b"png"
    record = Record.model_validate_json(page.with_suffix(".json").read_text())
    assert record.rows == (row,) and record.settings == {"size": 1}
    assert record.command == f"./bazelw run //benchmarks:example -- --out {tmp_path}"
    assert record.findings == (at_least("rows", 1.0, 1, aim=1.0),)
    printed = capsys.readouterr().out
    assert printed.startswith("findings: 1\n") and printed.count("wrote ") == 3


def test_no_plot_no_image(tmp_path: Path) -> None:
    assert _run(tmp_path) == 0
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".md"]
    assert "![" not in next(tmp_path.glob("*.md")).read_text()
