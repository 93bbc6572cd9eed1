"""Ends a program on SIGTERM and SIGHUP as on Ctrl-C: by an exception, so that all is tidied up."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# What a trainer says then.
NOTHING_LEFT = "interrupted: nothing half-written was left"

EXIT_INTERRUPTED = 128 + signal.SIGINT

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# An impatient second signal does not cut the tidying short; but the first may have been lost in
# native code, so that a later one is heard again.
_DEAF_S = 10.0


class Interrupted(KeyboardInterrupt):
    """A signal has asked the program to end; `status` is what it then ends with."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def raise_on_signals() -> None:
    """Makes the signals raise `Interrupted` in the main thread, but for those that are ignored.

    Under `nohup`, SIGHUP is, and stays so.
    """
    deaf_until_s = 0.0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal deaf_until_s
        if time.monotonic() < deaf_until_s:
            return
        deaf_until_s = time.monotonic() + _DEAF_S
        raise Interrupted(number)

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


def status_of(error: KeyboardInterrupt) -> int:
    """Returns the status that a program ends with, 128 and the signal's number."""
    return error.status if isinstance(error, Interrupted) else EXIT_INTERRUPTED


@contextmanager
def exit_when_interrupted(message: str) -> Iterator[None]:
    """Ends the program with one line and the signal's status if a signal arrives within.

    Programs import all that takes time within, too.
    """
    try:
        raise_on_signals()
        yield
    except KeyboardInterrupt as interrupt:
        print(message, file=sys.stderr)
        sys.exit(status_of(interrupt))
