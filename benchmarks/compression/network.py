"""Network namespaces joined by links of a given rate, for ranks on one machine.

Two namespaces are joined by one veth pair, more by a bridge in a namespace of its own. Every end of
every link is shaped with tc's token bucket, so both directions have the rate, and a receiver that
several send to gets no more than it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

INTERFACE = "hpc0"
_BRIDGE = "bridge0"
_PREFIX = "hpc-bench"
_COMMAND_TIMEOUT_S = 30

# A bucket as small as a link's jitter allows: what it holds after a pause is sent at any rate. It
# must hold the largest packet that the kernel passes whole, 64 KiB, more than once.
_BURST_S = 0.3e-3
_LEAST_BURST_BYTES = 128 * 1024
# More than the sockets of all ranks hold together, so that no packet is dropped.
_QUEUE_BYTES = 64 * 2**20
# On a link that drops nothing Reno fills the window and stays there. BBR leaves a share of a shaped
# link unused, CUBIC takes the bucket's jitter for congestion.
_CONGESTION_CONTROL = "reno"

Command = list[str]


class NetworkError(RuntimeError):
    """Namespaces or links cannot be made; the message says what is missing."""


class End(NamedTuple):
    """One end of a link: an interface in a namespace."""

    namespace: str
    interface: str


class Plan(NamedTuple):
    """What is made for some ranks.

    Attributes:
      namespaces: all; the first `world_size` are the ranks', in order.
      addresses: of the ranks, each on `INTERFACE` in its namespace.
      links: veth pairs.
    """

    namespaces: list[str]
    addresses: list[str]
    links: list[tuple[End, End]]


def plan_network(world_size: int, pid: int) -> Plan:
    """Returns the plan for `world_size` ranks; names carry the process's id."""
    ranks = [f"{_PREFIX}-{pid}-rank{rank}" for rank in range(world_size)]
    # TEST-NET-1 of RFC 5737: nothing else uses it, and the namespaces reach nothing else.
    addresses = [f"192.0.2.{rank + 1}" for rank in range(world_size)]
    ends = [End(name, INTERFACE) for name in ranks]
    if world_size == 2:
        return Plan(ranks, addresses, [(ends[0], ends[1])])
    switch = f"{_PREFIX}-{pid}-switch"
    links = [(end, End(switch, f"port{rank}")) for rank, end in enumerate(ends)]
    return Plan([*ranks, switch], addresses, links)


def make_commands(plan: Plan) -> Iterator[Command]:
    """Yields the commands that make what is planned, all links up and not yet shaped."""
    for name in plan.namespaces:
        yield ["ip", "netns", "add", name]
        yield ["ip", "-n", name, "link", "set", "lo", "up"]
    for near, far in plan.links:
        link = ["ip", "link", "add", "name", near.interface, "netns", near.namespace]
        yield [*link, "type", "veth", "peer", "name", far.interface, "netns", far.namespace]
    for switch in plan.namespaces[len(plan.addresses) :]:
        yield ["ip", "-n", switch, "link", "add", _BRIDGE, "type", "bridge"]
        yield ["ip", "-n", switch, "link", "set", _BRIDGE, "up"]
        for _, port in plan.links:
            yield ["ip", "-n", switch, "link", "set", port.interface, "master", _BRIDGE]
    for end in _ends(plan):
        yield ["ip", "-n", end.namespace, "link", "set", end.interface, "up"]
    for name, address in zip(plan.namespaces, plan.addresses, strict=False):
        yield ["ip", "-n", name, "address", "add", f"{address}/24", "dev", INTERFACE]
        route = ["ip", "-n", name, "route", "replace", "192.0.2.0/24", "dev", INTERFACE]
        yield [*route, "src", address, "congctl", _CONGESTION_CONTROL]


def shape_commands(plan: Plan, gbit_per_s: float) -> Iterator[Command]:
    """Yields the commands that give both directions of all links a rate."""
    bits_per_s = round(gbit_per_s * 1e9)
    burst = max(_LEAST_BURST_BYTES, round(bits_per_s / 8 * _BURST_S))
    for end in _ends(plan):
        qdisc = ["tc", "-n", end.namespace, "qdisc", "replace", "dev", end.interface, "root"]
        rate = ["tbf", "rate", f"{bits_per_s}bit", "burst", str(burst), "limit", str(_QUEUE_BYTES)]
        yield [*qdisc, *rate]


def remove_commands(namespaces: Sequence[str]) -> Iterator[Command]:
    """Yields the commands that remove namespaces, and with them their links."""
    for name in namespaces:
        yield ["ip", "netns", "delete", name]


def enter_command(namespace: str) -> Command:
    """Returns what to put before a command to run it in a namespace, by the same process id."""
    return ["ip", "netns", "exec", namespace]


def check_tools() -> None:
    """Raises NetworkError unless this process may make namespaces and has the programs for it."""
    missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
    if missing:
        raise NetworkError(
            f"{' and '.join(missing)} not found: install iproute2, as with `apt-get install "
            "iproute2`, and see that /usr/sbin is in PATH"
        )
    if os.geteuid() != 0:
        raise NetworkError(
            "network namespaces and shaped links are made by root only: run this as root"
        )


@contextmanager
def network(plan: Plan) -> Iterator[None]:
    """Makes what is planned, and removes it however the block ends.

    Raises:
      NetworkError: a command failed.
    """
    try:
        for command in make_commands(plan):
            run(command)
        yield
    finally:
        for command in remove_commands(plan.namespaces):
            with suppress(NetworkError):  # it was not made, or is gone
                run(command)


def remove_abandoned() -> None:
    """Removes the namespaces of earlier runs whose processes were killed before they could."""
    for name in abandoned(run(["ip", "netns", "list"])):
        with suppress(NetworkError):
            run(["ip", "netns", "delete", name])


def abandoned(listing: str) -> list[str]:
    """Returns those of our namespaces in a listing whose process is no more."""
    names = [line.split()[0] for line in listing.splitlines() if line.strip()]
    found = ((name, re.match(rf"{_PREFIX}-(\d+)-", name)) for name in names)
    return [name for name, match in found if match and not Path("/proc", match[1]).exists()]


def run(command: Command) -> str:
    """Runs a command of iproute2; returns what it printed.

    Raises:
      NetworkError: it failed.
    """
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkError(f"`{' '.join(command)}`: {error}") from error
    if result.returncode:
        said = result.stderr.strip() or f"status {result.returncode}"
        raise NetworkError(
            f"`{' '.join(command)}` failed: {said}. The kernel must allow network namespaces, veth "
            "links, bridges and the tbf queue; containers need CAP_NET_ADMIN and CAP_SYS_ADMIN"
        )
    return result.stdout


def _ends(plan: Plan) -> list[End]:
    return [end for link in plan.links for end in link]
