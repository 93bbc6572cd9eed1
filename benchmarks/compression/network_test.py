"""Networks are planned whole and removed whole, whatever happens in between."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.compression.network import (
    INTERFACE,
    NetworkError,
    abandoned,
    check_tools,
    enter_command,
    make_commands,
    network,
    plan_network,
    remove_commands,
    shape_commands,
)

_PID = 4321
# Linux's IFNAMSIZ, less the end of the string.
_LONGEST_INTERFACE = 15
# What the kernel passes whole through a link.
_LARGEST_PACKET_BYTES = 64 * 1024


def _iproute2(directory: Path, *, fails_at: str = "never") -> Path:
    """Programs that write down what they are asked, and fail when asked for `fails_at`."""
    log = directory / "log"
    log.touch()
    for name in ("ip", "tc"):
        program = directory / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {log}\n'
            f'case "$*" in *"{fails_at}"*) echo "not permitted" >&2; exit 2;; esac\n'
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return log


def test_two_ranks_share_one_link() -> None:
    plan = plan_network(2, _PID)
    assert len(plan.namespaces) == len(plan.addresses) == 2
    ((near, far),) = plan.links
    assert [near.namespace, far.namespace] == plan.namespaces
    assert near.interface == far.interface == INTERFACE


def test_more_ranks_meet_at_a_bridge() -> None:
    plan = plan_network(4, _PID)
    *ranks, switch = plan.namespaces
    assert [near.namespace for near, _ in plan.links] == ranks and len(ranks) == 4
    assert {far.namespace for _, far in plan.links} == {switch}
    bridged = [command for command in make_commands(plan) if "master" in command]
    assert len({command[command.index("set") + 1] for command in bridged}) == 4


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_all_that_is_made_is_removed(world_size: int) -> None:
    plan = plan_network(world_size, _PID)
    made = [c[-1] for c in make_commands(plan) if c[:3] == ["ip", "netns", "add"]]
    removed = [command[-1] for command in remove_commands(plan.namespaces)]
    assert made == removed == plan.namespaces and len(set(made)) == len(made)
    assert all(f"-{_PID}-" in name for name in made)
    names = [end.interface for link in plan.links for end in link]
    assert max(map(len, names)) <= _LONGEST_INTERFACE
    # A link with an end outside of the namespaces would outlive them.
    assert {end.namespace for link in plan.links for end in link} <= set(made)


@pytest.mark.parametrize("gbit_per_s", [0.5, 1.0, 25.0])
def test_both_directions_of_all_links_are_shaped(gbit_per_s: float) -> None:
    plan = plan_network(4, _PID)
    commands = list(shape_commands(plan, gbit_per_s))
    shaped = {(c[c.index("-n") + 1], c[c.index("dev") + 1]) for c in commands}
    assert shaped == {tuple(end) for link in plan.links for end in link}
    for command in commands:
        options = dict(zip(command[-6::2], command[-5::2], strict=True))
        assert options["rate"] == f"{gbit_per_s * 1e9:.0f}bit"
        assert int(options["burst"]) > _LARGEST_PACKET_BYTES


def test_removed_when_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = _iproute2(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    plan = plan_network(2, _PID)
    with pytest.raises(KeyboardInterrupt), network(plan):
        raise KeyboardInterrupt
    deleted = [line for line in log.read_text().splitlines() if "delete" in line]
    assert deleted == [f"ip netns delete {name}" for name in plan.namespaces]


@pytest.mark.parametrize("fails_at", ["netns add", "type veth", "congctl"])
def test_removed_when_making_fails(
    fails_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = _iproute2(tmp_path, fails_at=fails_at)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    plan = plan_network(4, _PID)
    with pytest.raises(NetworkError, match="not permitted"), network(plan):
        pytest.fail("there is no network to use")
    deleted = [line for line in log.read_text().splitlines() if "delete" in line]
    assert deleted == [f"ip netns delete {name}" for name in plan.namespaces]


def test_removed_when_terminated(tmp_path: Path) -> None:
    log = _iproute2(tmp_path)
    program = (
        "import signal\n"
        "from base.interrupts import NOTHING_WRITTEN, exit_when_interrupted\n"
        "from benchmarks.compression.network import network, plan_network\n"
        f"with exit_when_interrupted(NOTHING_WRITTEN), network(plan_network(2, {_PID})):\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
    )
    environment = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (143, "interrupted: nothing was written\n")
    assert log.read_text().count("netns delete") == 2


def test_abandoned_are_those_of_processes_that_are_gone() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ours, gone = f"hpc-bench-{os.getpid()}-rank0", f"hpc-bench-{dead.pid}-rank1"
    listing = f"{ours} (id: 0)\n{gone} (id: 1)\nsomeone-{dead.pid}-else\n\n"
    assert abandoned(listing) == [gone]


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NetworkError, match=r"ip and tc not found.*apt-get install iproute2"):
        check_tools()


def test_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _iproute2(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NetworkError, match="as root"):
        check_tools()


def test_entering_runs_in_the_namespace() -> None:
    assert enter_command("a") == ["ip", "netns", "exec", "a"]
