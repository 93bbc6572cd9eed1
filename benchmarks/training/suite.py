"""Times the training loop beside plain ones: a step, a checkpoint, and waiting for data.

    ./bazelw run //benchmarks:training
    ./bazelw run //benchmarks:training -- --quick
    ./bazelw run //benchmarks:training -- --networks digits --frameworks torch

The loop is the one of //train:flax and //train:torch, with all that it does by default; plain ones
are written by hand, in Flax with optax or in PyTorch, of the same network and batches. Prints
tables and writes DATE-training.json, .md and .png, without --out into benchmarks/results. On 2
cores the default takes about 15 minutes, --quick about two.
"""

import argparse

from base.options import Parser, positive_float
from benchmarks.harness.suite import Measurement, Suite
from benchmarks.networks.cases import FRAMEWORKS, NETWORKS
from benchmarks.training.cases import PRESETS


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--quick", action="store_true", help="few steps, about two minutes")
    add("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    add("--frameworks", nargs="+", choices=FRAMEWORKS, default=FRAMEWORKS)
    add("--presets", nargs="+", choices=PRESETS, default=PRESETS, help="of which to time the data")
    add("--grace-s", type=positive_float, default=60.0, help="seconds to wait for quiet, in all")


def _prepare(args: argparse.Namespace) -> Measurement:
    from benchmarks.training.measure import prepare

    return prepare(args)


SUITE = Suite("training", __doc__, _add_options, _prepare)
