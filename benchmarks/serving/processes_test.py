"""Programs are started with all that they start, paused, counted and ended."""

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.serving.processes import free_ports, running, taken

# A parent that does nothing, and its child that never rests.
_SPIN = "print('up', flush=True)\nwhile True: pass"
_PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_SPIN!r}])"
_WAIT_S = 60.0


def _wait_for(log: Path, words: str) -> None:
    end = time.monotonic() + _WAIT_S
    while words not in log.read_text():
        assert time.monotonic() < end
        time.sleep(0.01)


def _cpu_s_grows(session: int, seconds: float) -> bool:
    before = taken()[session].cpu_s
    time.sleep(seconds)
    return taken()[session].cpu_s > before


def _sessions() -> set[int]:
    return {session for session, found in taken().items() if found.resident_bytes}


def test_children_count_are_paused_and_end_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running([sys.executable, "-c", _PARENT], log) as program:
        _wait_for(log, "up")
        while not _cpu_s_grows(program.session, 0.1):  # on a busy machine it may take its time
            pass
        # Two interpreters, of some MiB each.
        assert taken()[program.session].resident_bytes > 8 * 2**20
        program.pause()
        time.sleep(0.05)  # for a signal to arrive
        assert not _cpu_s_grows(program.session, 0.2)
        program.go_on()
        while not _cpu_s_grows(program.session, 0.1):
            pass
        assert program.has_ended() is None
        program.pause()  # one that is paused ends all the same
    assert program.session not in _sessions()


def test_last_words_of_a_program_that_ends_by_itself(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with running(command, tmp_path / "log") as program:
        program.process.wait(_WAIT_S)
        assert program.has_ended() == "status 1: no such model\n"


@pytest.mark.parametrize("ours", [True, False])
def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ours: bool) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere", prepend=os.pathsep)
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    monkeypatch.setenv("https_proxy", "elsewhere:2")
    names = ("OMP_NUM_THREADS", "RAY_ADDRESS", "https_proxy")
    code = f"import os; print(*map(os.environ.get, {names}), 'PYTHONPATH' in os.environ)"
    log = tmp_path / "log"
    with running([sys.executable, "-S", "-c", code], log, ours=ours) as program:
        program.process.wait(_WAIT_S)
    assert log.read_text() == f"1 None None {ours}\n"


def test_ports_are_others() -> None:
    assert len(set(free_ports(20))) == 20
