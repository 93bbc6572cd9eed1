"""A benchmark's program ends well: interrupted, failed or done, in its words and its status."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from base.options import Parser, directory_name
from benchmarks import program
from benchmarks.program import BadInputError, FailedError, Results

# Says that it measures, waits for a signal, and would have results; `write` waits while it writes.
_PROGRAM = """
import sys, time
from base.options import Parser, directory_name
from benchmarks import program, result_files
from base.interrupts import NOTHING_WRITTEN, exit_when_interrupted

def wait(*arguments):
    print("waiting", flush=True)
    time.sleep(600)

def measure(args, command):
    if args.during == "measure":
        wait()
    result_files.os.link = wait
    return program.Results("example", "{}", None, str)

parser = Parser("An example.")
parser.add_argument("--during")
parser.add_argument("--out", type=directory_name)
with exit_when_interrupted(NOTHING_WRITTEN):
    sys.exit(program.run(parser, "//:example", sys.argv[1:], measure))
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


def _run(out: Path, outcome: Results | Exception) -> int:
    def measure(*arguments: object) -> Results:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    parser = Parser("An example.")
    parser.add_argument("--out", type=directory_name)
    return program.run(parser, "//:example", ["--out", str(out)], measure)


def test_failures_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path / "a", BadInputError("no GPU")) == 2
    assert _run(tmp_path / "a", FailedError("a rank died")) == 1
    assert capsys.readouterr().err == "error: no GPU\nerror: a rank died\n"
    assert list(tmp_path.iterdir()) == []


def test_lost_directory_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"

    def page(image: str) -> str:
        out.rmdir()
        out.touch()
        return image

    assert _run(out, Results("example", "{}", None, page)) == 1
    assert capsys.readouterr().err.startswith(f"error: cannot write results to {out}: ")


def test_status_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, Results("example", "{}", b"png", lambda image: image, status=1)) == 1
    (page,) = tmp_path.glob("*-example.md")
    assert page.read_text() == page.with_suffix(".png").name
    assert page.with_suffix(".json").read_text() == "{}"
    assert capsys.readouterr().out.count("wrote ") == 3
