"""A gateway ends as soon as it is told to."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving.example import publish_example

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _end_within(module: str, directory: Path, number: int) -> tuple[int, str, str]:
    """Runs a gateway that `number` reaches as it imports `module`."""
    loaded = publish_example(directory / "artifact")
    start = (
        "import runpy, signal, sys\n"
        f"for number in {tuple(map(int, _SIGNALS))}: signal.signal(number, signal.SIG_DFL)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}: sys.meta_path.remove(self); "
        f"signal.raise_signal({int(number)})\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"sys.argv = ['gateway', '--port', '0', '--artifact', {str(loaded.directory)!r}]\n"
        "runpy.run_module('serving.gateway', run_name='__main__', alter_sys=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("number", _SIGNALS)
def test_while_it_is_imported(number: int, tmp_path: Path) -> None:
    ended = _end_within("pydantic", tmp_path, number)
    assert ended == (128 + number, "", "interrupted: nothing was started\n")


@pytest.mark.parametrize("number", _SIGNALS)
def test_before_ray_is_started(number: int, tmp_path: Path) -> None:
    assert _end_within("serving.cluster", tmp_path, number) == (0, "", "")


def test_a_relative_path_in_a_directory_that_is_gone_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BUILD_WORKING_DIRECTORY", raising=False)
    (tmp_path / "gone").mkdir()
    program = (
        "import os, runpy, sys\n"
        f"os.chdir({str(tmp_path / 'gone')!r}); os.rmdir(os.getcwd())\n"
        "sys.argv = ['gateway', '--artifact', 'x']\n"
        "runpy.run_module('serving.gateway', run_name='__main__', alter_sys=True)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: the current directory, where x was to be, is gone")
    assert ended.stderr.count("\n") == 1
