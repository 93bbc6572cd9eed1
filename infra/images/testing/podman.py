"""A podman of a test's own: its storage and networks are below one folder and end with the test.

Debian's packages podman, runc, netavark and aardvark-dns are enough; nothing of them has to be
configured, and no daemon runs. Containers are in a network namespace of the test's process, so that
neither bridges nor rules of a firewall are left on the machine.
"""

import ctypes
import os
import resource
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from infra.bazel.oci.bundle import write_archive

# Set by CI: a test of images fails where it could not run.
REQUIRED = "HPC_IMAGE_TESTS"

_PROGRAMS = (
    "podman",
    "runc",
    "iptables",
    "ip",
    "/usr/lib/podman/netavark",
    "/usr/lib/podman/aardvark-dns",
)
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_CLONE_NEWNET = 0x40000000

# Of what takes longest: 2 GB are unpacked.
_TIMEOUT_S = 400.0

_CONFIGURATION = """\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
# Nobody reads a journal here.
log_driver = "k8s-file"

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"

[network]
network_backend = "netavark"
"""

# The first line ends when the test does, however it ends.
_CLEAN_UP = """
cat
folder="$1"
shift
"$@" rm --all --force --time 0
"$@" network prune --force
"$@" unmount --all
"$@" image unmount --all
rm -rf "$folder"
"""


class Podman:
    """podman with its state below a folder.

    Args:
        folder: For all of it. Its path should be short: sockets are in there.

    Attributes:
        command: The words before a command of podman.
        environment: With which it runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        configuration = folder / "containers.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
                processes=min(resource.getrlimit(resource.RLIMIT_NPROC)[1], 32768),
            )
        )
        self.environment: Mapping[str, str] = {
            "CONTAINERS_CONF": str(configuration),
            "HOME": str(folder),
            "PATH": _PATH,
            "TMPDIR": str(folder),
            "XDG_RUNTIME_DIR": str(folder / "run"),
        }
        (folder / "run").mkdir()
        self.command = ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
        self.command += ["--network-config-dir", str(folder / "networks")]

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Runs a command of podman as a process."""
        return subprocess.Popen(
            [*self.command, *map(str, arguments)],
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Runs a command of podman to its end."""
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=_TIMEOUT_S)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def __call__(self, *arguments: object) -> str:
        """Runs a command that must succeed, and returns what it printed."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def load(self, layout: Path, name: str) -> None:
        """Takes an image of a layout into the storage, as `.load` does."""
        command = [*self.command, "load", "--quiet"]
        environment = dict(self.environment)
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as loading:
            assert loading.stdin is not None
            write_archive(layout, f"{name}:latest", loading.stdin)
            loading.stdin.close()
        assert loading.returncode == 0

    def program(self) -> Path:
        """Returns a program that is this podman, for those who are told which one to run."""
        program = self.folder / "podman"
        variables = [f"{key}={value}" for key, value in self.environment.items()]
        words = shlex.join(["env", *variables, *self.command])
        program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        program.chmod(0o755)
        return program

    def port(self, container: str, port: int) -> str:
        """Where a published port of a container can be reached, as HOST:PORT."""
        return self("port", container, f"{port}/tcp").splitlines()[0]


@contextmanager
def podman() -> Iterator[Podman]:
    """A podman in a network of its own; all its containers and files are removed at the end.

    Skips the test where it cannot run, and fails it if the environment says that it has to.
    """
    if reason := _obstacle():
        give_up(reason)
    _leave_the_machines_network()
    with storage() as engine:
        yield engine


@contextmanager
def storage() -> Iterator[Podman]:
    """A podman whose containers and files are removed at the end, also if the test is killed.

    Bazel ends a test by SIGTERM, and then kills all that it has started, so that nothing can tidy
    up but the test itself; whoever else kills it leaves that to a process that outlives it.
    """
    folder = Path(tempfile.mkdtemp(prefix="pod-", dir="/tmp"))
    engine = Podman(folder)
    cleaner = subprocess.Popen(
        ["sh", "-c", _CLEAN_UP, "sh", folder, *engine.command],
        env=dict(engine.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield engine
    finally:
        cleaner.communicate(timeout=_TIMEOUT_S)
        signal.signal(signal.SIGTERM, before)


def give_up(reason: str) -> NoReturn:
    """Skips a test that cannot run here, or fails it where the environment says that it has to."""
    raise (pytest.fail if os.environ.get(REQUIRED) == "1" else pytest.skip).Exception(reason)


def _obstacle() -> str:
    """Why containers cannot be run here; "" if they can."""
    missing = [program for program in _PROGRAMS if not shutil.which(program, path=_PATH)]
    if missing:
        return f"no {', '.join(missing)}; Debian's packages have them"
    if os.geteuid() != 0:
        return "containers of several users are run by root here"
    return ""


def _leave_the_machines_network() -> None:
    """Puts this process, and those that it starts, into a network of their own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "a network namespace could not be made")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
