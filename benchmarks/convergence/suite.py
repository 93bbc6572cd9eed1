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

from base.options import Parser, positive_int
from benchmarks.convergence.cases import VARIANT_NAMES
from benchmarks.harness.suite import Measurement, Suite
from benchmarks.tasks.task_names import TASK_NAMES

_DEFAULT_TASKS = ("digits", "bytes")


def add_options(parser: Parser) -> None:
    """Adds the benchmark's own options."""
    add = parser.add_argument
    add("--quick", action="store_true", help="few short runs on 2 ranks, about two minutes")
    add("--tasks", nargs="+", choices=TASK_NAMES, default=list(_DEFAULT_TASKS))
    add("--world-sizes", nargs="+", type=positive_int, help="numbers of ranks")
    add("--seeds", type=positive_int, help="runs of each variant, on each number of ranks")
    add("--steps", type=positive_int, help="of each run")
    add("--variants", nargs="+", choices=VARIANT_NAMES, help="besides float32")


def _prepare(args: argparse.Namespace) -> Measurement:
    from benchmarks.convergence.measure import prepare

    return prepare(args)


SUITE = Suite("convergence", __doc__, add_options, _prepare)
