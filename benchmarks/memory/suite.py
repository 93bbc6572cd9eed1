"""Measures what training keeps for the way back, from few blocks to many, in both frameworks.

    ./bazelw run //benchmarks:memory
    ./bazelw run //benchmarks:memory -- --quick
    ./bazelw run //benchmarks:memory -- --frameworks torch --depths 8 64 512

A transformer under each policy of gradient checkpointing, and a convolutional network with ordinary
and with reversible stages. Prints tables and writes DATE-memory.json, .md and .png, without --out
into benchmarks/results. Nothing is timed, so the machine need not be quiet: on 2 cores the default
takes about ten minutes, nearly all of them XLA's to compile, --quick about one.
"""

import argparse

from base.options import Parser, count_from_two
from benchmarks.harness.suite import Measurement, Suite
from benchmarks.memory.cases import DEPTHS, FRAMEWORKS, QUICK_DEPTHS


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    depths = parser.add_mutually_exclusive_group()
    depths.add_argument("--quick", action="store_true", help="few blocks, about a minute")
    depths.add_argument("--depths", nargs="+", type=count_from_two, help="numbers of blocks")
    add("--frameworks", nargs="+", choices=FRAMEWORKS, default=FRAMEWORKS)


def _prepare(args: argparse.Namespace) -> Measurement:
    from benchmarks.memory.measure import prepare

    default = QUICK_DEPTHS if args.quick else DEPTHS
    return prepare(args.frameworks, sorted(set(args.depths or default)))


SUITE = Suite("memory", __doc__, _add_options, _prepare)
