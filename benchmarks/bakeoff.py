"""Which optimizer ends lower: each tuned by as many trials, compared over several seeds.

    ./bazelw run //benchmarks:bakeoff
    ./bazelw run //benchmarks:bakeoff -- --quick
    ./bazelw run //benchmarks:bakeoff -- --tasks bytes --optimizers adamw lion --trials 20

Trains a vision transformer and a convolutional network on the digits, and a language model over the
bytes of Python's standard library. Learning rate and decay of each optimizer are tuned by the same
number of trials; then it trains from several seeds, and once more with its state in 8 bits. Prints
tables with deviations and significance, and writes DATE-bakeoff.json, .md and .png, without --out
into benchmarks/results. On a 2-core machine the default takes about 35 minutes, --quick about six.
"""

import argparse
import sys
from collections.abc import Sequence

from base.interrupts import NOTHING_WRITTEN, exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports(NOTHING_WRITTEN)

from base.options import Parser, directory_name, positive_int
from benchmarks import program
from benchmarks.convergence_names import TASK_NAMES
from benchmarks.program import Results
from optim.registry import ALGORITHMS


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark; returns the exit status."""
    return program.run(_make_parser(), "//benchmarks:bakeoff", arguments, _measure)


def _make_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="few short runs, about six minutes")
    add("--tasks", nargs="+", choices=TASK_NAMES, default=TASK_NAMES)
    add("--optimizers", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    add("--trials", type=positive_int, help="to tune each optimizer by, for each task")
    add("--seeds", type=positive_int, help="runs of each tuned optimizer")
    add("--steps", type=positive_int, help="of each run")
    add("--out", type=directory_name, help="directory for the results")
    return parser


def _measure(args: argparse.Namespace, command: str) -> Results:
    from benchmarks.bakeoff_measure import measure

    return measure(args, command)


if __name__ == "__main__":
    with exit_when_interrupted(NOTHING_WRITTEN):
        sys.exit(main(sys.argv[1:]))
