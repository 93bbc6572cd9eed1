"""The newcomer's first command: it works, it reports, and it leaves nothing behind."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from data.sources import digits
from registry.artifact import load

_MARK = "HPC_QUICKSTART_TEST"


def _processes_marked(mark: str) -> list[str]:
    """Command lines of all processes that inherited `mark` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            if f"{_MARK}={mark}".encode() in environment.split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended meanwhile, or is not ours to look into
            continue
    return found


@contextmanager
def _quickstart(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Starts the quickstart; on the way out nothing that it started may be alive."""
    mark = secrets.token_hex(8)
    command = [sys.executable, "-m", "quickstart_main", *map(str, arguments)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {_MARK: mark},
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
    assert _processes_marked(mark) == []


def _lines_until(process: subprocess.Popen[str], pattern: str) -> list[str]:
    """Reads output up to the line that matches."""
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if re.search(pattern, line):
            return lines
    raise AssertionError(f"no line like {pattern!r} in {lines}; {process.stderr.read()}")


def test_trains_serves_answers_and_keeps_serving(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with _quickstart("--keep", "--output", run_dir) as process:
        report = _lines_until(process, "recognised as served")
        recognised = float(re.search(r"([\d.]+)% recognised", report[-1])[1])
        assert recognised >= 97.0

        artifact = load(run_dir / "artifact").artifact
        assert f"{artifact.metrics['accuracy']:.2%}" == f"{recognised:.2f}%"

        rest = "\n".join(_lines_until(process, "//serving:client"))
        assert re.search(r"latency p50 [\d.]+ ms, p99 [\d.]+ ms, \d+ requests/s", rest)
        assert f"artifact in {run_dir / 'artifact'}\n" in rest

        # The commands that it offers, as they are pasted; the second without Bazel in front.
        (curl,) = re.findall(r"^ +(curl .*)$", rest, re.MULTILINE)
        reply = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True)
        predicted = json.loads(reply.stdout)
        assert predicted["model"] == artifact.name
        assert predicted["predictions"][0]["class"] == str(digits.load().test.targets[0])

        arguments = rest.splitlines()[-1].partition(" -- ")[2].split()
        answer = subprocess.run(
            [sys.executable, "-m", "serving.client.program", *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        num_samples = len(np.load(run_dir / "samples.npy"))
        assert f"[{num_samples}, 10]" in answer.stdout

        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 0
    load(run_dir / "artifact")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports_ends_it(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the place of the first library that is imported.
    (tmp_path / "typer.py").write_text(f"import signal; signal.raise_signal({int(number)})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with _quickstart() as process:
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (128 + number, "")
    assert stderr == "interrupted: everything was shut down\n"


def test_a_signal_while_training_leaves_nothing(tmp_path: Path) -> None:
    with _quickstart("--output", tmp_path / "run") as process:
        _lines_until(process, "^step ")
        process.terminate()
        _, stderr = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert stderr == "interrupted: everything was shut down\n"
    assert list(tmp_path.iterdir()) == []


def test_options_are_read_before_a_framework_is_imported() -> None:
    script = (
        "import atexit, runpy, sys; sys.argv = sys.argv[1:];"
        "heavy = {'torch', 'jax', 'flax', 'optax', 'deepspeed', 'sklearn', 'scipy', 'ray'};"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules))));"
        "runpy.run_module('quickstart_main', run_name='__main__', alter_sys=True)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, "quickstart", "--bogus"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout.splitlines()[-1] == "[]"


def test_refuses_no_directory() -> None:
    with _quickstart("--output", "") as process:
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (2, "")
    assert stderr == "error: --output: expected the path of a directory, got ''\n"


def test_refuses_a_directory_in_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with _quickstart("--output", tmp_path) as process:
        stdout, stderr = process.communicate()
    assert process.returncode == 2
    assert stdout == ""
    assert stderr.startswith(f"error: {tmp_path} is no directory of a run: it has file")
