"""Times a step of every optimizer: ours, torch's, optax's, pytorch-optimizer's, bitsandbytes'.

    ./bazelw run //benchmarks:optim
    ./bazelw run //benchmarks:optim -- --quick
    ./bazelw run //benchmarks:optim -- --algorithms adamw lion --frameworks torch --out .

Prints tables and writes DATE-optim.json, .md and .png, without --out into benchmarks/results. On a
2-core machine the default takes about five minutes, --quick about one.
"""

import argparse

from base.options import Parser, positive_float
from benchmarks.harness.suite import Measurement, Suite
from benchmarks.optim.cases import FRAMEWORKS
from optim.registry import ALGORITHMS


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--quick", action="store_true", help="two smaller models, about a minute")
    add("--algorithms", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    add("--frameworks", nargs="+", choices=FRAMEWORKS, default=FRAMEWORKS)
    add("--grace-s", type=positive_float, default=60.0, help="seconds to wait for quiet, in all")


def _prepare(args: argparse.Namespace) -> Measurement:
    from benchmarks.optim.measure import prepare

    return prepare(args)


SUITE = Suite("optim", __doc__, _add_options, _prepare)
