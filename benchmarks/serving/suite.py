"""Times our gateway beside Ray Serve, LitServe, MLServer and a bare grpc.aio server.

    ./bazelw run //benchmarks:serving
    ./bazelw run //benchmarks:serving -- --quick
    ./bazelw run //benchmarks:serving -- --servers "bare grpc.aio" ours --models mlp --callers 32

All serve the same networks in PyTorch on one thread, and are asked by one process, in turns: by
callers who wait for their answers, at fixed rates, and with large tensors. Prints tables and writes
DATE-serving.json, .md and .png, without --out into benchmarks/results. On 2 cores the default takes
about 40 minutes, --quick about four; it needs 10 GiB of memory.
"""

import argparse

from base.options import Parser, positive_float, positive_int
from benchmarks.harness.suite import Measurement, Suite
from benchmarks.serving.cases import DEFAULT, QUICK, SERVERS, SMALL_MODELS, Preset


def add_options(parser: Parser) -> None:
    """Adds the benchmark's own options."""
    add = parser.add_argument
    add("--quick", action="store_true", help="one model, few loads, about four minutes")
    add("--servers", nargs="+", choices=SERVERS, default=SERVERS)
    add("--models", nargs="*", choices=SMALL_MODELS, help="with small inputs")
    add("--callers", nargs="+", type=positive_int, help="who wait for their answers")
    add("--rates", nargs="*", type=positive_float, help="requests a second of the first model")
    add("--tensors-mib", nargs="*", type=positive_int, help="sizes of large inputs")
    add("--rounds", type=positive_int, help="turns of each side at each load")
    add("--seconds", type=positive_float, help="of a turn")
    add("--grace-s", type=positive_float, default=60.0, help="seconds to wait for quiet, in all")


def preset(args: argparse.Namespace) -> Preset:
    """What the options name, with the preset's choice of the rest."""
    given = {name: getattr(args, name, None) for name in Preset._fields}
    changes = {name: value for name, value in given.items() if value is not None}
    return (QUICK if args.quick else DEFAULT)._replace(**changes)


def _prepare(args: argparse.Namespace) -> Measurement:
    from benchmarks.serving.measure import prepare

    return prepare(preset(args), args.servers, args.grace_s)


SUITE = Suite("serving", __doc__, add_options, _prepare)
