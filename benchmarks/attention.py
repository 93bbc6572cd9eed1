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
import sys
from collections.abc import Sequence

from base.interrupts import NOTHING_WRITTEN, exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports(NOTHING_WRITTEN)

from base.options import Parser, directory_name, positive_float, positive_int
from benchmarks import program
from benchmarks.attention_cases import DTYPES, FEATURES
from benchmarks.machine import find_gpus
from benchmarks.program import BadInputError, Results
from kernels.dispatch import BACKENDS


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark; returns the exit status."""
    return program.run(_make_parser(), "//benchmarks:attention", arguments, _measure)


def _make_parser() -> Parser:
    parser = Parser(__doc__)
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
    add("--out", type=directory_name, help="directory for the results")
    return parser


def _even_int(text: str) -> int:
    if positive_int(text) % 2:
        raise argparse.ArgumentTypeError(f"must be even, for RoPE, got {text!r}")
    return int(text)


def _measure(args: argparse.Namespace, command: str) -> Results:
    if args.device == "cuda" and not find_gpus():
        raise BadInputError("--device cuda: no NVIDIA GPU is found here")
    from benchmarks.attention_measure import measure

    return measure(args, command)


if __name__ == "__main__":
    with exit_when_interrupted(NOTHING_WRITTEN):
        sys.exit(main(sys.argv[1:]))
