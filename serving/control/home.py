"""A gateway's own directory: its sockets, Ray's files, and a lock that says whether it lives."""

import fcntl
import os
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.control import reaper
from serving.errors import StartError

# Paths of Unix sockets are limited to 107 bytes, and TMPDIR can be longer than that.
_PARENT = Path("/tmp")  # noqa: S108  made by mkdtemp, of mode 0700
_PREFIX = "hpc-"

# Locked by the gateway and by its watchdog. The kernel lets go of a lock when all its holders have
# ended, so no number of a process has to be trusted.
_LOCK = "gateway.lock"

# By what it holds, a replica knows that this is the gateway's directory and not one of the same
# name on another machine.
_SIGN = "gateway.sign"

# The watchdog has processes to wait for that the kernel has killed; this is far more than it takes.
_CLEAN_S = 30.0


# Sent to all processes of a service or a terminal, for the gateway to act on. It ends in good time.
_NOT_FOR_THE_WATCHDOG = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Home:
    """The directory of a gateway that lives.

    Attributes:
        directory: Open to this user alone.
        sign: A random text that its file `gateway.sign` holds.
    """

    directory: Path
    sign: str

    @property
    def sockets(self) -> Path:
        """Where replicas of this machine listen."""
        return self.directory / "replicas"


@contextmanager
def home() -> Iterator[Home]:
    """A new directory, with a watchdog that removes it, and all that bears its mark, afterwards.

    It does so however this process ends, SIGKILL included. Directories of gateways that ended
    together with their watchdogs are removed first.

    Raises:
        StartError: It cannot be made.
    """
    remove_dead()
    sign = secrets.token_hex(16)
    directory, lock = _made(sign)
    watchdog = _start_watchdog(directory, lock)
    try:
        yield Home(directory, sign)
    finally:
        assert watchdog.stdin is not None
        watchdog.stdin.close()
        watchdog.wait(_CLEAN_S)
        os.close(lock)


def _made(sign: str) -> tuple[Path, int]:
    """Makes a directory with its sign and its lock, and returns it and the lock, which is held."""
    directory = None
    try:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_PARENT))
        lock = _lock(directory)
        (directory / _SIGN).write_text(sign)
    except OSError as error:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        raise StartError(
            f"cannot write to {_PARENT}, where a gateway has its sockets and the files of Ray "
            f"while it runs ({error.strerror}); let this user write there, and leave some space"
        ) from error
    return directory, lock


def shares_home(directory: Path, sign: str) -> bool:
    """Whether this process sees the very directory of a gateway, and may use it."""
    try:
        return (directory / _SIGN).read_text() == sign and os.access(directory, os.W_OK)
    except OSError:
        return False


def remove_dead() -> None:
    """Removes what is left of gateways that ended together with their watchdogs.

    Only a directory of this user whose lock nobody holds is one of those. One without a lock may
    be anybody's, and is left alone.
    """
    for directory in _PARENT.glob(f"{_PREFIX}*"):
        try:
            found = directory.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            reaper.clean(str(directory))
        except BlockingIOError:
            pass  # its gateway lives, or another one removes it now
        finally:
            os.close(lock)


def _lock(directory: Path) -> int:
    """Makes the lock of a directory, held before others can see it, and returns it."""
    unseen = directory / f".{_LOCK}"
    lock = os.open(unseen, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unseen.rename(directory / _LOCK)
    return lock


def _start_watchdog(directory: Path, lock: int) -> subprocess.Popen[bytes]:
    """Starts the watchdog, apart from whatever is sent to this process's group.

    It holds the lock as well, so that nobody else cleans up while it does, and none of this
    process's streams, for whose end others may wait.
    """
    # Blocked here, they are blocked there from the first instruction on.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_THE_WATCHDOG)
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[lock],
            start_new_session=True,
            cwd="/",
            env={},
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
