"""What the command lines of all benchmarks share."""

import argparse
import sys
from typing import NoReturn

EXIT_BAD_INPUT = 2


class Parser(argparse.ArgumentParser):
    """Answers a bad option with one line on stderr and `EXIT_BAD_INPUT`."""

    def error(self, message: str) -> NoReturn:
        """Says what was wrong and ends the process."""
        print(f"error: {message}; --help lists the options", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


def positive_int(text: str) -> int:
    """Reads a whole number of at least 1; an option's `type`."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, got {text!r}")
    return int(text)


def positive_float(text: str) -> float:
    """Reads a finite number above 0; an option's `type`."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return value
