"""Ends a program on SIGINT, SIGTERM and SIGHUP by an exception, so that all is tidied up.

Python loses an exception that a signal's handler raises within a destructor or another callback
that nobody waits for, and some libraries drop those that they do not expect. So it is raised again
and again, until it is on its way up to where the program ends.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# What a benchmark says then.
NOTHING_WRITTEN = "interrupted: nothing was written"

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_AGAIN_S = 0.1


class Interrupted(SystemExit):
    """A signal has asked the program to end; `code` is the status that it then ends with.

    Not a KeyboardInterrupt, which command-line libraries catch to say something of their own.
    """

    def __init__(self, number: int):
        super().__init__(128 + number)


class _Heard:
    """The first signal that was heard, if any."""

    number: int | None = None


def asked_to_end() -> list[signal.Signals]:
    """Returns the signals that are to end this program: those that its parent did not ignore.

    Under `nohup`, SIGHUP is, and stays so.
    """
    return [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def hear_signals_in_imports(message: str) -> None:
    """Ends the program on a signal at once, with one line: while it imports, nothing is to tidy up.

    What a program calls before it imports what takes time, and `exit_when_interrupted` supersedes.
    """
    for number in asked_to_end():
        signal.signal(number, lambda heard, _: _leave(message, 128 + heard))


@contextmanager
def exit_when_interrupted(message: str) -> Iterator[None]:
    """Ends the program with one line and the signal's status if a signal arrives within.

    Further signals do not cut the tidying short. When all of it is done the process ends there and
    then, without what `atexit` has: the interpreter would be taken from under threads of libraries
    that are still at work. What must not be left is removed by `finally`, here as everywhere.

    A program whose block has come to its own end is no longer interrupted.
    """
    signal.signal(signal.SIGALRM, _raise)
    for number in asked_to_end():
        signal.signal(number, _raise)
    _silence_lost_exceptions()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        # Whatever ends the block: what was raised may have become some other exception.
        if _Heard.number is not None:
            _leave(message, 128 + _Heard.number)


def take() -> None:
    """Says that an `Interrupted` was caught and goes no further: the program goes on."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    _Heard.number = None


def _raise(number: int, frame: FrameType | None) -> None:
    first = _Heard.number is None and number != signal.SIGALRM
    if first:
        _Heard.number = number
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S, _AGAIN_S)
    # What handles an exception may be what tidies up, even if it is not ours any more.
    if _Heard.number is not None and (first or sys.exception() is None):
        raise Interrupted(_Heard.number)


def _silence_lost_exceptions() -> None:
    """Has Python not report those that it loses, which are raised again."""
    report = sys.unraisablehook

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if not isinstance(lost.exc_value, Interrupted):
            report(lost)

    sys.unraisablehook = hook


def _leave(message: str, status: int) -> None:
    with suppress(OSError, ValueError):
        print(message, file=sys.stderr, flush=True)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(status)
