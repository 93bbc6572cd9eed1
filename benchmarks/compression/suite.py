"""Times the averaging of 100 MB of gradients over slow links: torch's communication hooks and ours.

    ./bazelw run //benchmarks:compression
    ./bazelw run //benchmarks:compression -- --quick
    ./bazelw run //benchmarks:compression -- --rates 1 2.5 --world-sizes 2 --repeats 5 --out .

Makes network namespaces joined by links of 1, 10 and 25 Gbit/s, so it needs root and iproute2's ip
and tc; all of it is removed in the end. Two and four ranks take turns at every side. Prints tables
and writes DATE-compression.json, .md and .png, without --out into benchmarks/results. On a quiet
2-core machine the default takes about seven minutes and, with four ranks, 9 GiB of memory; --quick
takes about one minute.
"""

import argparse

from base.options import Parser, positive_float, positive_int
from benchmarks.compression.cases import DEFAULT, QUICK, Preset
from benchmarks.compression.network import NetworkError, check_tools, remove_abandoned
from benchmarks.harness.suite import BadInputError, Measurement, Suite

# One veth pair or one bridge: more ranks than this on one machine measure only the machine.
_MAX_WORLD_SIZE = 8
# Below, a step takes minutes; above, no veth link is that fast.
_RATES = (0.1, 100.0)


def add_options(parser: Parser) -> None:
    """Adds the benchmark's own options."""
    add = parser.add_argument
    add("--quick", action="store_true", help="two ranks, two links, about a minute")
    add("--rates", nargs="+", type=_rate, help="of the links, in Gbit/s")
    add("--world-sizes", nargs="+", type=_world_size, help="numbers of ranks")
    add("--repeats", type=positive_int, help="timed steps of each side over each link")
    add("--grace-s", type=positive_float, default=60.0, help="seconds to wait for quiet, in all")


def preset(args: argparse.Namespace) -> Preset:
    """What the options name, with the preset's choice of the rest."""
    changes = {
        "rates": args.rates,
        "world_sizes": args.world_sizes,
        "repeats": args.repeats,
    }
    given = {name: value for name, value in changes.items() if value}
    return (QUICK if args.quick else DEFAULT)._replace(**given)


def _world_size(text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= _MAX_WORLD_SIZE:
        raise argparse.ArgumentTypeError(f"must be from 2 to {_MAX_WORLD_SIZE}, got {text!r}")
    return int(text)


def _rate(text: str) -> float:
    least, most = _RATES
    if not least <= (rate := positive_float(text)) <= most:
        raise argparse.ArgumentTypeError(f"must be from {least:g} to {most:g}, got {text!r}")
    return rate


def _prepare(args: argparse.Namespace) -> Measurement:
    try:
        check_tools()
        remove_abandoned()
    except NetworkError as error:
        raise BadInputError(str(error)) from error
    from benchmarks.compression.measure import prepare

    return prepare(preset(args), args.grace_s)


SUITE = Suite("compression", __doc__, add_options, _prepare)
