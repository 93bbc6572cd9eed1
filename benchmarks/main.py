"""The program of every benchmark: its name, then its options.

    ./bazelw run //benchmarks:attention -- --quick

The target gives the name. What a benchmark measures and takes is said in `NAME/suite.py`.
"""

import sys
from collections.abc import Sequence

from base.interrupts import NOTHING_WRITTEN, exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports(NOTHING_WRITTEN)

from importlib import import_module

from base.program import EXIT_BAD_INPUT
from benchmarks.harness.runner import run

SUITES = (
    "attention",
    "bakeoff",
    "compression",
    "convergence",
    "memory",
    "networks",
    "optim",
    "serving",
    "training",
)


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark of the first argument; returns the exit status."""
    name, *options = arguments or [""]
    if name not in SUITES:
        print(f"error: must be one of {', '.join(SUITES)}, got {name!r}", file=sys.stderr)
        return EXIT_BAD_INPUT
    # A target has its own suite only, so no import can name them all.
    return run(import_module(f"benchmarks.{name}.suite").SUITE, options)


if __name__ == "__main__":
    with exit_when_interrupted(NOTHING_WRITTEN):
        sys.exit(main(sys.argv[1:]))
