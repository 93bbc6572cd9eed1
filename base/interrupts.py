"""Ends a program on SIGINT, SIGTERM and SIGHUP by an exception, so that all is tidied up.

Python loses an exception that a signal's handler raises within a destructor or another callback
that nobody waits for, and some libraries drop those that they do not expect. So it is raised again
and again, until it is on its way up to where the program ends.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
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


class _HeldBack:
    """Whether signals are held back, and the first that was heard since they are."""

    is_wanted = False
    active = False
    number: int | None = None
    message = ""
    listener: Callable[[int], None] | None = None


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
def exit_when_interrupted(message: str, *, holds_back: bool = False) -> Iterator[None]:
    """Ends the program with one line and the signal's status if a signal arrives within.

    Args:
        message: The line.
        holds_back: Whether `held_back` does so in this program.

    Further signals do not cut the tidying short. When all of it is done the process ends there and
    then, without what `atexit` has: the interpreter would be taken from under threads of libraries
    that are still at work. What must not be left is removed by `finally`, here as everywhere.

    A program whose block has come to its own end is no longer interrupted.
    """
    signal.signal(signal.SIGALRM, _raise)
    for number in asked_to_end():
        signal.signal(number, _raise)
    _HeldBack.is_wanted = holds_back
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


@contextmanager
def held_back(
    message: str = "", *, listener: Callable[[int], None] | None = None
) -> Iterator[None]:
    """Lets what runs within come to a good end: the first signal only asks, the next one ends it.

    It holds back what `exit_when_interrupted` would raise, where that was told to; elsewhere it
    changes nothing. What a process is asked by `ask` counts too.

    Args:
        message: What the user is told at the first.
        listener: Called with the number of the first signal, as a signal's handler is.
    """
    held = []
    if _HeldBack.is_wanted and threading.current_thread() is threading.main_thread():
        held = [number for number in _SIGNALS if signal.getsignal(number) is _raise]
    _HeldBack.active, _HeldBack.number = True, None
    _HeldBack.message, _HeldBack.listener = message, listener
    for number in held:
        signal.signal(number, lambda number, _: ask(number))
    try:
        yield
    finally:
        _HeldBack.active = False
        for number in held:
            signal.signal(number, _raise)


def ask(number: int) -> None:
    """Asks what runs in `held_back` to end, as a signal does.

    Raises:
        Interrupted: It had been asked before, or nothing holds signals back.
    """
    if _HeldBack.number is not None or not _HeldBack.active:
        _raise(number, None)
    _HeldBack.number = number
    if _HeldBack.message:
        with suppress(OSError, ValueError):
            print(_HeldBack.message, file=sys.stderr, flush=True)
    if _HeldBack.listener is not None:
        _HeldBack.listener(number)


def asked() -> int | None:
    """Returns the signal that has asked what runs in `held_back`, or what ran there last."""
    return _HeldBack.number


def is_held_back() -> bool:
    """Whether what is asked now lets something come to a good end."""
    return _HeldBack.active


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
