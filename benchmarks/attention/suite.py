"""Times attention beside PyTorch's, JAX's and others' own, all sides in turns in one process.

    ./bazelw run //benchmarks:attention -- --device cpu
    ./bazelw run //benchmarks:attention -- --device cpu --quick
    ./bazelw run //benchmarks:attention -- --lengths 1024 --features alibi rope --dtypes float32

Prints a table and writes DATE-attention-DEVICE.json, .md and .png, without --out into
benchmarks/results. Every peer gets its best settings: its own layout, all cores, masks made and
programs compiled beforehand; a side whose results differ from the others' is not timed. On a quiet
2-core machine the default takes about eleven minutes, --quick about one. Ends with status 1 if one
of our own sides has no result somewhere.
"""

import argparse

from base.options import Parser, positive_float, positive_int
from benchmarks.attention.cases import DTYPES, FEATURES
from benchmarks.harness.machine import find_gpus
from benchmarks.harness.suite import BadInputError, Measurement, Suite
from kernels.dispatch import BACKENDS


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--device", default="cpu", choices=["cpu", "cuda"])
    preset = parser.add_mutually_exclusive_group()
    preset.add_argument("--quick", action="store_true", help="few cases, about a minute")
    preset.add_argument("--full", action="store_true", help="every case and peer, hours")
    add("--features", nargs="+", choices=list(FEATURES))
    add("--dtypes", nargs="+", choices=DTYPES)
    add("--lengths", nargs="+", type=positive_int, help="sequence lengths")
    add("--head-dims", nargs="+", type=_even_int, help="features besides plain take the first")
    add("--backends", nargs="+", choices=BACKENDS, default=[], help="of ours, besides the chosen")
    add("--budget-s", type=positive_float, help="seconds for one pass of one case")
    add("--grace-s", type=positive_float, default=60.0, help="seconds to wait for quiet, in all")


def _even_int(text: str) -> int:
    if positive_int(text) % 2:
        raise argparse.ArgumentTypeError(f"must be even, for RoPE, got {text!r}")
    return int(text)


def _prepare(args: argparse.Namespace) -> Measurement:
    if args.device == "cuda" and not find_gpus():
        raise BadInputError("--device cuda: no NVIDIA GPU is found here")
    from benchmarks.attention.measure import prepare

    return prepare(args)


SUITE = Suite("attention", __doc__, _add_options, _prepare)
