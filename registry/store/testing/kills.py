"""Processes that are killed at the n-th thing they do to a disk or ask of a server."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import aiobotocore.httpsession

# What changes something, and what waits for the disk: between two of these a store is the same,
# whatever is read there. Of these Python tells before it does them.
_AUDITED = frozenset(
    ["os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.utime"]
)
# And of these it does not.
_WRAPPED = ("copy_file_range", "fsync", "write")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_READING = ("GET", "HEAD")


def runs_to_its_end(task: Callable[[], object], last: int) -> bool:
    """Runs a task in a process forked off here, which kills itself at its `last`-th operation.

    Returns:
        Whether the task came to its end, since it has fewer operations.

    Raises:
        AssertionError: It raised something.
    """
    child = os.fork()
    if child == 0:
        try:
            _kill_at(last)
            task()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def _kill_at(last: int) -> None:
    """Has this process killed before an operation on files, or before a request is sent."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        is_written = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if is_written or event in _AUDITED:
            step()

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            step()
            return function(*arguments, **keywords)

        return call

    sys.addaudithook(audit)
    for name in _WRAPPED:
        setattr(os, name, wrapped(getattr(os, name)))


def requests_run_to_their_end(task: Callable[[], object], last: int) -> bool:
    """As `runs_to_its_end`, of requests to a server of S3's protocol that change something."""
    send = aiobotocore.httpsession.AIOHTTPSession.send
    count = 0

    async def counted(session: Any, request: Any) -> Any:
        nonlocal count
        count += request.method not in _READING
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return await send(session, request)

    def run() -> None:
        aiobotocore.httpsession.AIOHTTPSession.send = counted
        task()

    return runs_to_its_end(run, 0)
