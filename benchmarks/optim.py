"""Times a step of every optimizer: ours, torch's, optax's, pytorch-optimizer's, bitsandbytes'.

    ./bazelw run //benchmarks:optim
    ./bazelw run //benchmarks:optim -- --quick
    ./bazelw run //benchmarks:optim -- --algorithms adamw lion --frameworks torch --out .

Prints tables and writes DATE-optim.json, .md and .png, without --out into benchmarks/results. On a
2-core machine the default takes about five minutes, --quick about one.
"""

import argparse
import sys
from collections.abc import Sequence

from base.interrupts import NOTHING_WRITTEN, exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports(NOTHING_WRITTEN)

from base.options import Parser, directory_name, positive_float
from benchmarks import program
from benchmarks.program import Results
from optim.registry import ALGORITHMS

FRAMEWORKS = ("torch", "jax")


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark; returns the exit status."""
    return program.run(_make_parser(), "//benchmarks:optim", arguments, _measure)


def _make_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="two smaller models, about a minute")
    add("--algorithms", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    add("--frameworks", nargs="+", choices=FRAMEWORKS, default=FRAMEWORKS)
    add("--grace-s", type=positive_float, default=60.0, help="seconds to wait for quiet, in all")
    add("--out", type=directory_name, help="directory for the results")
    return parser


def _measure(args: argparse.Namespace, command: str) -> Results:
    from benchmarks.optim_measure import measure

    return measure(args, command)


if __name__ == "__main__":
    with exit_when_interrupted(NOTHING_WRITTEN):
        sys.exit(main(sys.argv[1:]))
