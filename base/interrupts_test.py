"""Signals end a program by an exception that it can tidy up after."""

import signal
import subprocess
import sys

import pytest

_PROGRAM = """
import signal, sys
from base.interrupts import raise_on_signals, status_of

ignored, *numbers = map(int, sys.argv[1:])
if ignored:
    signal.signal(ignored, signal.SIG_IGN)
raise_on_signals()
status = 0
try:
    signal.raise_signal(numbers[0])
    print("heard nothing")
except KeyboardInterrupt as interrupt:
    status = status_of(interrupt)
    for number in numbers[1:]:
        signal.raise_signal(number)
    print("tidied up")
sys.exit(status)
"""


_IMPORTING = """
import signal, sys
from base.interrupts import exit_when_interrupted

with exit_when_interrupted("interrupted: all is well"):
    signal.raise_signal(int(sys.argv[1]))
print("heard nothing")
"""


def _run(ignored: int, *numbers: int) -> tuple[int, str, str]:
    command = [sys.executable, "-c", _PROGRAM, *map(str, map(int, (ignored, *numbers)))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_an_exception_that_knows_its_status(number: int) -> None:
    assert _run(0, number) == (128 + number, "tidied up\n", "")


def test_a_second_signal_does_not_cut_the_tidying_short() -> None:
    numbers = (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    assert _run(0, *numbers) == (143, "tidied up\n", "")


def test_what_is_ignored_stays_so() -> None:
    assert _run(signal.SIGHUP, signal.SIGHUP) == (0, "heard nothing\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_program_ends_with_one_line_and_the_status(number: int) -> None:
    command = [sys.executable, "-c", _IMPORTING, str(int(number))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 128 + number
    assert (ended.stdout, ended.stderr) == ("", "interrupted: all is well\n")
