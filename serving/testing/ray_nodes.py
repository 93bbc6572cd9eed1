"""A Ray cluster that somebody else runs: nodes that `ray start` starts, each at its own address.

Linux has all of 127.0.0.0/8 on loopback, so two nodes of one machine can have two addresses.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.control.object_store import OBJECT_STORE_BYTES
from serving.control.reaper import MARK, kill_marked, marked

START_S = 300.0


class RayNodes:
    """A running cluster.

    Attributes:
        address: Of its head.
        token: That it asks for.
        directory: Of its files.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.token = secrets.token_hex(32)
        with socket.create_server(("127.0.0.2", 0)) as free:
            self.address = f"127.0.0.2:{free.getsockname()[1]}"

    def start(self, host: str, num_cpus: int, *, is_head: bool = False) -> None:
        """Starts a node at an address of its own."""
        port = self.address.rpartition(":")[2]
        what = ["--head", f"--port={port}", "--include-dashboard=false"]
        subprocess.run(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start"),
                *(what if is_head else [f"--address={self.address}"]),
                *(f"--node-ip-address={host}", f"--num-cpus={num_cpus}"),
                *(f"--temp-dir={self.directory / 'ray'}", "--disable-usage-stats"),
                f"--object-store-memory={OBJECT_STORE_BYTES}",
            ],
            env=os.environ
            | {MARK: str(self.directory), "SPT_NOENV": "1", "HOME": "/nonexistent"}
            | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token},
            check=True,
            timeout=START_S,
            capture_output=True,
        )

    def processes(self, name: str) -> list[int]:
        """Its processes whose command line holds a text."""
        return [pid for pid in marked(str(self.directory)) if name in _command(pid)]


@contextmanager
def ray_nodes() -> Iterator[RayNodes]:
    """Yields a cluster of no node yet, and ends all of it."""
    # A short path, which the sandbox's own directory for tests is not.
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        yield RayNodes(directory)
    finally:
        kill_marked(str(directory))
        shutil.rmtree(directory, ignore_errors=True)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
