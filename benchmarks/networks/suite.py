"""Trains the presets' networks beside the same ones in plain Flax and PyTorch: loss and time.

    ./bazelw run //benchmarks:networks
    ./bazelw run //benchmarks:networks -- --quick
    ./bazelw run //benchmarks:networks -- --networks mnist_cnn --frameworks flax

On a preset's data, from the same weights and batches, float32, one device. Ours are the steps of
//train:flax and //train:torch. Prints tables and writes DATE-networks.json, .md and .png, without
--out into benchmarks/results. On 2 cores the default takes about six minutes, --quick about two.
"""

import argparse

from base.options import Parser, positive_float
from benchmarks.harness.suite import Measurement, Suite
from benchmarks.networks.cases import FRAMEWORKS, NETWORKS


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--quick", action="store_true", help="few steps, about two minutes")
    add("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    add("--frameworks", nargs="+", choices=FRAMEWORKS, default=FRAMEWORKS)
    add("--grace-s", type=positive_float, default=60.0, help="seconds to wait for quiet, in all")


def _prepare(args: argparse.Namespace) -> Measurement:
    from benchmarks.networks.measure import prepare

    return prepare(args)


SUITE = Suite("networks", __doc__, _add_options, _prepare)
