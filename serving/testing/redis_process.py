"""A Redis of a test's own, on a Unix socket.

Debian's `redis-tools` holds the server as well: `redis-check-rdb` is the same program as
`redis-server`, and looks at the name that it is called by.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_PROGRAM = "redis-check-rdb"
# A machine may be busy; a server that does not start says so by ending.
_PATIENCE_S = 60.0


class RedisProcess:
    """One server without persistence, and its data.

    Args:
        directory: for its socket; its path is short, since the system limits that to 107 bytes.
    """

    def __init__(self, directory: Path) -> None:
        self._socket = directory / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For clients."""
        return f"unix://{self._socket}"

    def start(self, **settings: str) -> None:
        """Starts it, empty, and returns once it answers.

        Args:
            settings: more of its configuration, such as `requirepass="..."`.
        """
        program = shutil.which(_PROGRAM)
        if program is None:
            raise FileNotFoundError(f"{_PROGRAM} not found; on Debian: apt-get install redis-tools")
        settings = {"port": "0", "unixsocket": str(self._socket), "save": "", **settings}
        arguments = [text for key, value in settings.items() for text in (f"--{key}", value)]
        self._process = subprocess.Popen(
            ["redis-server", *arguments],
            executable=program,
            cwd=self._socket.parent,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"redis-server ended with status {self._process.returncode}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"redis-server does not answer after {_PATIENCE_S:g} s")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends it as a crash would; it may be started again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """From now on it accepts connections and answers nothing, until `thaw`."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It answers again, also what it was asked meanwhile."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self._socket))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith((b"+PONG", b"-NOAUTH"))
            except OSError:
                return False


@contextlib.contextmanager
def running_redis(**settings: str) -> Iterator[RedisProcess]:
    """A server that has started, and is gone afterwards; settings as for `start`."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="redis-") as directory:
        process = RedisProcess(Path(directory))
        try:
            process.start(**settings)
            yield process
        finally:
            process.stop()
