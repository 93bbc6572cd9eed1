"""Other processes' load is seen, our own is not."""

import subprocess
import sys
import time

import pytest

from benchmarks.harness import load
from benchmarks.harness.load import Grace, OtherLoad, quiet_cores

_SPIN = "print(flush=True)\nwhile True: pass"


def test_another_process_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", _SPIN], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None and other.stdout.readline()
            watch = OtherLoad()
            time.sleep(1.0)
            seen = watch.cores()
        finally:
            other.kill()
    assert seen > quiet_cores()


def test_own_work_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([load._Clocks(0.0, 100.0, 10.0), load._Clocks(2.0, 103.0, 12.0)])
    monkeypatch.setattr(load, "_read_clocks", lambda: next(readings))
    # Of 3 busy seconds in 2, ours are 2.
    assert OtherLoad().cores() == 0.5


def test_grace_is_spent_once() -> None:
    grace = Grace(1.0)
    assert grace.spend(0.75)
    assert not grace.spend(0.5)
    assert grace.spend(0.25)


def test_no_grace_waits_for_nothing() -> None:
    Grace(0.0).wait()
