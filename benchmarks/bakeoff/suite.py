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

from base.options import Parser, positive_int
from benchmarks.harness.suite import Measurement, Suite
from benchmarks.tasks.task_names import TASK_NAMES
from optim.registry import ALGORITHMS


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--quick", action="store_true", help="few short runs, about six minutes")
    add("--tasks", nargs="+", choices=TASK_NAMES, default=TASK_NAMES)
    add("--optimizers", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    add("--trials", type=positive_int, help="to tune each optimizer by, for each task")
    add("--seeds", type=positive_int, help="runs of each tuned optimizer")
    add("--steps", type=positive_int, help="of each run")


def _prepare(args: argparse.Namespace) -> Measurement:
    from benchmarks.bakeoff.measure import prepare

    return prepare(args)


SUITE = Suite("bakeoff", __doc__, _add_options, _prepare)
