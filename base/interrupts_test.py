"""Signals end a program with one line, whatever Python was at, and after all is tidied up."""

import signal
import subprocess
import sys
from textwrap import indent

import pytest

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_PROGRAM = """
import gc, signal, sys, time
from base.interrupts import Interrupted, exit_when_interrupted, hear_signals_in_imports, take

numbers = [int(number) for number in sys.argv[1:]]

def hear():
    while numbers:
        signal.raise_signal(numbers.pop(0))

"""

_WITHIN = """
with exit_when_interrupted("interrupted: all is well", holds_back=True):
    try:
{body}
        time.sleep(60)
    finally:
        hear()
        time.sleep(0.3)  # in which an exception that was lost would be raised three times
        print("tidied up")
"""

# Where Python or a library loses the exception.
_LOST = {
    "collector": """
gc.callbacks.append(lambda phase, info: hear())
gc.collect()
""",
    "destructor": """
class Dying:
    def __del__(self):
        hear()
Dying()
""",
    "library": """
try:
    hear()
except BaseException:
    pass
""",
    "conversion": """
converted = False
try:
    hear()
except BaseException:
    converted = True
if converted:
    raise RuntimeError("INTERNAL: a callback failed")
""",
}


def _run(program: str, *numbers: int, ignored: tuple[int, ...] = ()) -> tuple[int, str, str]:
    def set_signals() -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM + program, *map(str, map(int, numbers))],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=set_signals,
    )
    return ended.returncode, ended.stdout, ended.stderr


def _within(body: str) -> str:
    return _WITHIN.format(body=indent(body, " " * 8))


@pytest.mark.parametrize("number", SIGNALS)
def test_a_program_ends_with_one_line_and_the_status(number: int) -> None:
    ended = _run(_within("hear()"), number)
    assert ended == (128 + number, "tidied up\n", "interrupted: all is well\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_so_it_does_during_its_imports(number: int) -> None:
    program = "hear_signals_in_imports('interrupted: at once')\nhear()"
    assert _run(program, number) == (128 + number, "", "interrupted: at once\n")


@pytest.mark.parametrize("where", _LOST)
def test_a_lost_exception_is_raised_again(where: str) -> None:
    ended = _run(_within(_LOST[where]), signal.SIGTERM)
    assert ended == (143, "tidied up\n", "interrupted: all is well\n")


def test_further_signals_do_not_cut_the_tidying_short() -> None:
    body = "signal.raise_signal(numbers.pop(0))"
    ended = _run(_within(body), signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    assert ended == (143, "tidied up\n", "interrupted: all is well\n")


def test_nothing_at_the_interpreters_end_changes_the_status() -> None:
    at_exit = "import atexit, os; atexit.register(os.abort)\n"
    assert _run(at_exit + _within("hear()"), signal.SIGTERM)[0] == 143


def test_a_program_that_has_ended_is_not_interrupted() -> None:
    program = "with exit_when_interrupted('too late'):\n    pass\nhear()"
    assert _run(program, *SIGNALS) == (0, "", "")


def test_an_interrupt_that_was_taken_is_over() -> None:
    body = "try:\n    hear()\nexcept Interrupted:\n    take()\ntime.sleep(0.3)\nsys.exit(7)"
    assert _run(_within(body), signal.SIGINT) == (7, "tidied up\n", "")


def test_what_is_ignored_stays_so() -> None:
    ended = _run(_within("hear()\nsys.exit(7)"), signal.SIGHUP, ignored=(signal.SIGHUP,))
    assert ended == (7, "tidied up\n", "")


_HELD_BACK = """
from base.interrupts import ask, asked, held_back
with held_back("asked: once more ends it"):
    hear()
    print("went on", asked())
"""


def test_what_holds_signals_back_is_asked_and_goes_on() -> None:
    ended = _run(_within(_HELD_BACK + "sys.exit(7)"), signal.SIGTERM)
    assert ended == (7, "went on 15\ntidied up\n", "asked: once more ends it\n")


def test_a_second_signal_is_not_held_back() -> None:
    ended = _run(_within(_HELD_BACK), signal.SIGTERM, signal.SIGINT)
    assert ended == (130, "tidied up\n", "asked: once more ends it\ninterrupted: all is well\n")


def test_a_program_may_hold_nothing_back() -> None:
    program = _within(_HELD_BACK).replace(", holds_back=True", "")
    assert _run(program, signal.SIGTERM) == (143, "tidied up\n", "interrupted: all is well\n")


def test_signals_are_held_back_no_longer_than_asked_for() -> None:
    body = "from base.interrupts import held_back\nwith held_back(): pass\nhear()"
    assert _run(_within(body), signal.SIGTERM)[0] == 143


def test_a_program_that_takes_no_signals_can_be_asked_too() -> None:
    program = (
        "from base.interrupts import ask, asked, held_back\n"
        "with held_back():\n    ask(15)\nprint(asked())"
    )
    assert _run(program) == (0, "15\n", "")
