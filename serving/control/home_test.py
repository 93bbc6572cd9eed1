"""What a gateway leaves behind is removed, however it ends, and nothing else is."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from serving.control import home as home_module
from serving.control import reaper
from serving.control.home import home, remove_dead, shares_home
from serving.errors import StartError

# Far more than anything here takes, on a busy machine too.
PATIENCE_S = 60.0

# A gateway as far as its directory goes: with one process that bears the mark, one that bears that
# of another, and one that bears none.
GATEWAY = """
import os, subprocess, sys
from serving.control.home import home
from serving.control.reaper import MARK
with home() as here:
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    marked, other, plain = (
        subprocess.Popen(
            sleeper, env=os.environ | env, stdout=subprocess.DEVNULL, start_new_session=True
        ).pid
        for env in ({MARK: str(here.directory)}, {MARK: f"{here.directory}0"}, {})
    )
    print(here.directory, marked, other, plain, flush=True)
    sys.stdin.read()
"""


def test_where_nothing_can_be_written_it_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(home_module, "_PARENT", Path("/proc"))
    expected = r"^cannot write to /proc, where a gateway has its sockets .+ \([A-Z][\w ]+\); let"
    with pytest.raises(StartError, match=expected), home():
        pass


class Gateway:
    """The program above, and what it said."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", GATEWAY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        directory, *pids = self.process.stdout.readline().split()
        self.directory = Path(directory)
        self.marked, self.other, self.plain = map(psutil.Process, map(int, pids))
        (self.watchdog,) = (
            child
            for child in psutil.Process(self.process.pid).children()
            if reaper.__file__ in child.cmdline()
        )


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    yield gateway
    gateway.process.kill()
    gateway.process.communicate()
    for process in (gateway.marked, gateway.other, gateway.plain, gateway.watchdog):
        if process.is_running():
            process.kill()
    shutil.rmtree(gateway.directory, ignore_errors=True)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def assert_only_its_own_is_gone(gateway: Gateway) -> None:
    wait_until(lambda: is_gone(gateway.marked) and not gateway.directory.exists())
    wait_until(lambda: is_gone(gateway.watchdog))
    assert not is_gone(gateway.other)
    assert not is_gone(gateway.plain)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_gateway_that_is_killed_leaves_nothing(gateway: Gateway, number: signal.Signals) -> None:
    gateway.process.send_signal(number)
    assert_only_its_own_is_gone(gateway)


def test_the_watchdog_outlives_signals_to_the_group_and_ends_with_the_gateway(
    gateway: Gateway,
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        gateway.watchdog.send_signal(number)
    os.killpg(gateway.process.pid, signal.SIGKILL)
    assert_only_its_own_is_gone(gateway)


def test_a_gateway_that_ends_has_removed_everything_by_then(gateway: Gateway) -> None:
    gateway.process.communicate()  # ends its standard input
    assert gateway.process.returncode == 0
    assert is_gone(gateway.marked)
    assert is_gone(gateway.watchdog)
    assert not gateway.directory.exists()
    assert not is_gone(gateway.plain)


def test_what_is_left_without_a_watchdog_is_removed_by_the_next_start(gateway: Gateway) -> None:
    gateway.watchdog.kill()
    wait_until(lambda: is_gone(gateway.watchdog))
    remove_dead()  # the gateway lives
    assert gateway.directory.exists()
    assert not is_gone(gateway.marked)
    gateway.process.kill()
    gateway.process.wait()
    assert gateway.directory.exists()
    with home() as ours:
        assert not gateway.directory.exists()
        assert is_gone(gateway.marked)
        assert ours.directory.exists()
    assert not is_gone(gateway.other)


def test_directories_that_are_not_proven_dead_are_left_alone() -> None:
    with home() as ours:
        foreign = ours.directory.with_name(f"{ours.directory.name}-foreign")
        link = ours.directory.with_name(f"{ours.directory.name}-link")
        foreign.mkdir()
        link.symlink_to(ours.directory)
        try:
            remove_dead()
            assert foreign.exists()
            assert ours.directory.exists()
        finally:
            foreign.rmdir()
            link.unlink()


def test_a_lock_says_who_lives() -> None:
    with home() as ours:
        with (ours.directory / "gateway.lock").open("r+") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert ours.directory.stat().st_mode & 0o777 == 0o700


def test_a_directory_of_the_same_name_elsewhere_is_none_of_the_gateways(tmp_path: Path) -> None:
    with home() as ours:
        assert shares_home(ours.directory, ours.sign)
        assert not shares_home(ours.directory, "another")
        assert not shares_home(tmp_path, ours.sign)
    assert not shares_home(ours.directory, ours.sign)
