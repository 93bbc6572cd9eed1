"""Ends what a gateway leaves behind. Also a program, the watchdog, that does it when one is killed.

    python -I -S reaper.py DIRECTORY < a pipe that the gateway holds open

The program waits for the end of the pipe, which comes when the gateway has ended, in whatever way.
Then it kills every process that carries the gateway's mark, and removes the gateway's directory. It
imports next to nothing, since it stands by for as long as a gateway runs.
"""

import os
import signal
import sys
import time

# In the environment of every process of a gateway's private Ray; its value is the directory. A
# title that a process gives itself changes its command line, and not what is read here.
MARK = "HPC_GATEWAY_DIRECTORY"

# Between two looks. A process that was about to be started is seen by the second one.
_AGAIN_S = 0.05


def marked(directory: str) -> list[int]:
    """Returns the live processes of this user that carry a gateway's mark, but no ancestor of ours.

    Args:
        directory: The gateway's.
    """
    mark = f"{MARK}={directory}".encode()
    mine = _ancestors()
    return [
        pid
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if pid not in mine and mark in _read(f"/proc/{pid}/environ").split(b"\0")
    ]


def kill_marked(directory: str) -> None:
    """Kills all processes with a gateway's mark, and returns when none is left.

    Args:
        directory: The gateway's.
    """
    quiet = 0
    while quiet < 2:
        found = marked(directory)
        for pid in found:
            _kill(pid, directory)
        quiet = 0 if found else quiet + 1
        time.sleep(_AGAIN_S)


def clean(directory: str) -> None:
    """Kills all processes with a gateway's mark, then removes its directory.

    Args:
        directory: The gateway's, which may be gone already.
    """
    kill_marked(directory)
    import shutil  # Not before: it is the largest of all imports here.

    shutil.rmtree(directory, ignore_errors=True)


def _kill(pid: int, directory: str) -> None:
    """Kills a process, and not another one that has got its number meanwhile."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if f"{MARK}={directory}".encode() in _read(f"/proc/{pid}/environ").split(b"\0"):
            signal.pidfd_send_signal(process, signal.SIGKILL)
    except OSError:
        pass  # it has ended by itself
    finally:
        os.close(process)


def _ancestors() -> set[int]:
    """This process and those that it comes from, as far as they can be seen."""
    found: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        # The name, in parentheses, may hold anything; the parent is the second field after it.
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        pid = int(fields[1]) if len(fields) > 1 else 0
    return found


def _read(path: str) -> bytes:
    """A file of /proc; empty if the process is gone, is another user's, or has ended already."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def main() -> None:
    """Waits for the end of standard input, and cleans up."""
    while os.read(0, 4096):
        pass
    clean(sys.argv[1])


if __name__ == "__main__":
    main()
