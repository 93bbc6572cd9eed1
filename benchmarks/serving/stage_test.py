"""Nobody is timed who has not answered, and answered rightly."""

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness.suite import FailedError
from benchmarks.serving import cases
from benchmarks.serving.processes import running
from benchmarks.serving.stage import require_right

_RIGHT = np.array([[1.0, -2.0], [0.5, 0.0]], np.float32)
_REQUESTS = [b"0", b"1"]


class _Caller:
    """Answers as Ray Serve does through HTTP, after so many refusals."""

    def __init__(self, answers: np.ndarray, refusals: int = 0) -> None:
        self._answers, self._refusals = answers, refusals
        self.is_closed = False

    async def ask(self, request: bytes) -> bytes:
        if self._refusals:
            self._refusals -= 1
            raise ConnectionRefusedError("not yet")
        return bytes(self._answers[int(request)].tobytes())

    async def close(self) -> None:
        self.is_closed = True


_RESTS = "import signal; signal.pause()"


def _require(caller: _Caller, tmp_path: Path, code: str = _RESTS) -> None:
    with running([sys.executable, "-c", code], tmp_path / "log") as process:
        if code != _RESTS:
            process.process.wait()
        asyncio.run(require_right(cases.RAY_HTTP, process, caller, _REQUESTS, _RIGHT))


def test_it_is_waited_for(tmp_path: Path) -> None:
    caller = _Caller(_RIGHT, refusals=2)
    _require(caller, tmp_path)
    assert caller.is_closed


@pytest.mark.parametrize("wrong", [_RIGHT[::-1], _RIGHT + 0.01, _RIGHT * np.nan])
def test_a_wrong_answer_is_told(tmp_path: Path, wrong: np.ndarray) -> None:
    with pytest.raises(FailedError, match=r"Ray Serve HTTP answers \[.*\], which should be \[ 1"):
        _require(_Caller(wrong), tmp_path)


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="its server has ended with status 1: no model"):
        _require(_Caller(_RIGHT, refusals=1), tmp_path, "raise SystemExit('no model')")
