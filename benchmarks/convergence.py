"""Trains with compressed gradients beside float32, from the same seeds: do they end equal?

    ./bazelw run //benchmarks:convergence
    ./bazelw run //benchmarks:convergence -- --quick
    ./bazelw run //benchmarks:convergence -- --tasks bytes --world-sizes 4 --seeds 8

Trains the digits' vision transformer and a language model over the bytes of Python's standard
library, on 2 and on 4 ranks, with each way for gradients to travel. Prints a table of the ends with
a test of equivalence, and writes DATE-convergence.json, .md and .png, without --out into
benchmarks/results. On a quiet 2-core machine the default takes about 20 minutes, --quick about two.
Ends with status 1 if int8 with error feedback was seen to end elsewhere than float32, or if a rank
failed.
"""

import argparse
import sys
from collections.abc import Sequence

from base.interrupts import NOTHING_WRITTEN, exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports(NOTHING_WRITTEN)

from base.options import Parser, directory_name, positive_int
from benchmarks import program
from benchmarks.convergence_names import TASK_NAMES, VARIANT_NAMES
from benchmarks.program import Results

_DEFAULT_TASKS = ("digits", "bytes")


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark; returns the exit status."""
    return program.run(make_parser(), "//benchmarks:convergence", arguments, _measure)


def make_parser() -> Parser:
    """The options."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="few short runs on 2 ranks, about two minutes")
    add("--tasks", nargs="+", choices=TASK_NAMES, default=list(_DEFAULT_TASKS))
    add("--world-sizes", nargs="+", type=positive_int, help="numbers of ranks")
    add("--seeds", type=positive_int, help="runs of each variant, on each number of ranks")
    add("--steps", type=positive_int, help="of each run")
    add("--variants", nargs="+", choices=VARIANT_NAMES, help="besides float32")
    add("--out", type=directory_name, help="directory for the results")
    return parser


def _measure(args: argparse.Namespace, command: str) -> Results:
    from benchmarks.convergence_measure import measure

    return measure(args, command)


if __name__ == "__main__":
    with exit_when_interrupted(NOTHING_WRITTEN):
        sys.exit(main(sys.argv[1:]))
