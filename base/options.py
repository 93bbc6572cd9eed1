"""What the command lines of benchmarks share, here and beside the kernels."""

import argparse
from pathlib import Path
from typing import NoReturn

from base.program import end_with_error

# No count of runs, steps or sizes that a benchmark ends with in a lifetime is larger.
MAX_COUNT = 10**6


class Parser(argparse.ArgumentParser):
    """Answers a bad option with one line on stderr and `EXIT_BAD_INPUT`; takes whole names only."""

    def __init__(self, documentation: str | None):
        """Shows the first line of `documentation`, a module's, as help."""
        super().__init__(description=(documentation or "").splitlines()[0], allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Says what was wrong and ends the process."""
        end_with_error(f"{message}; --help lists the options")


def positive_int(text: str) -> int:
    """Reads a whole number from 1 to `MAX_COUNT`; an option's `type`."""
    return _count(text, 1)


def count_from_two(text: str) -> int:
    """Reads a whole number from 2, such as of what has quartiles, to `MAX_COUNT`."""
    return _count(text, 2)


def positive_float(text: str) -> float:
    """Reads a finite number above 0; an option's `type`."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return value


def directory_name(text: str) -> Path:
    """Reads the path of a directory; an option's `type`."""
    if not text:
        raise argparse.ArgumentTypeError("must be the path of a directory, got ''")
    return Path(text)


def _count(text: str, least: int) -> int:
    short = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_COUNT))
    if not short or not least <= int(text) <= MAX_COUNT:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from {least} to {MAX_COUNT}, got {text[:40]!r}"
        )
    return int(text)
