"""Runs a function as several processes of this machine, the ranks of a world.

The process that asks for them is no rank itself. It passes on what ranks have to say, and ends all
of them as soon as one fails, on Ctrl-C, and when it ends itself, however that happens.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from base import interrupts
from train.launch import heartbeat
from train.launch.heartbeat import HangWatch

# Ranks that lose a peer fail in consequence. Within this time the first to fail has been heard of.
_GRACE_S = 1.0

# For what must not be left half-done; a rank that does not come back from native code is killed.
_STOP_TIMEOUT_S = 5.0

# By which the parent asks the first rank to come to a good end.
_ASKED = signal.SIGUSR1


class RankError(Exception):
    """A rank that died or failed unexpectedly; the message says which, and of what."""


@dataclass(frozen=True)
class _Message:
    value: Any


@dataclass(frozen=True)
class _Result:
    value: Any


@dataclass(frozen=True)
class _Failure:
    error: Exception
    at_s: float  # by a clock that all processes share


class _Rank(NamedTuple):
    process: BaseProcess
    inbox: Connection


def run_ranks(
    main: Callable[..., Any],
    world_size: int,
    arguments: Sequence[Any],
    *,
    on_message: Callable[[Any], Any],
    expected: tuple[type[Exception], ...] = (),
    hang_timeout_s: float | None = None,
) -> list[Any]:
    """Calls `main(rank, ask, *arguments)` in a new process for each rank, and waits for all.

    Args:
        main: A function of a module; it, its arguments, what it asks and what it returns travel
            between processes and so must be picklable.
        world_size: How many ranks.
        arguments: The same for every rank.
        on_message: Called in this process with each value that a rank gives to `ask`, which returns
            there what this returns here.
        expected: Exceptions of `main` that speak for themselves and are raised here as they are.
        hang_timeout_s: For how long none may call `heartbeat.beat`, in seconds, once one has; None:
            forever.

    Returns:
        What `main` returned, by rank.

    Raises:
        RankError: A rank died, failed of something unexpected, or is waited for by the others. All
            were ended.
    """
    ranks: list[_Rank] = []
    cells = heartbeat.shared_cells(world_size)
    watch = None if hang_timeout_s is None else HangWatch(cells, hang_timeout_s)
    try:
        with _children_deaf():
            for rank in range(world_size):
                ranks.append(_start(main, rank, arguments, expected, cells))
        try:
            with interrupts.held_back(listener=lambda _: _ask_to_end(ranks[0])):
                results = _listen(ranks, on_message, watch)
        except RankError:
            if (number := interrupts.asked()) is not None:  # nothing was to come to a good end
                interrupts.ask(number)
            raise
        for started in ranks:
            started.process.join(_STOP_TIMEOUT_S)
        return results
    finally:
        _stop(ranks)


def _ask_to_end(rank: _Rank) -> None:
    """Asks a rank as a signal asks this process; what it runs in `held_back` ends all of them."""
    if rank.process.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(rank.process.pid, _ASKED)


@contextmanager
def _children_deaf() -> Iterator[None]:
    """Makes children deaf to what a terminal sends to all: it is for the parent to act.

    To what the parent asks they listen as soon as they can.
    """
    resource_tracker.ensure_running()  # or the first child's start would do it, and lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGHUP, _ASKED])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(
    main: Callable[..., Any],
    rank: int,
    arguments: Sequence[Any],
    expected: tuple[type[Exception], ...],
    cells: Any,
) -> _Rank:
    # Not by forking: the copy would have this process's locks, but not the threads that free them.
    context = multiprocessing.get_context("spawn")
    inbox, outbox = context.Pipe()
    process = context.Process(
        target=_run, args=(main, rank, outbox, arguments, expected, cells), name=f"rank {rank}"
    )
    process.start()
    outbox.close()  # the child has the only other end: the inbox ends when the child does
    return _Rank(process, inbox)


def _listen(
    ranks: Sequence[_Rank], on_message: Callable[[Any], Any], watch: HangWatch | None
) -> list[Any]:
    results: dict[int, Any] = {}
    failures: dict[int, _Failure] = {}
    deadline_s = inf
    running = {rank.inbox: index for index, rank in enumerate(ranks)}
    while running and (not failures or time.monotonic() < deadline_s):
        poll_s = None if watch is None else watch.poll_s
        ready = wait(list(running), deadline_s - time.monotonic() if failures else poll_s)
        # One that has ended is waited for by nobody.
        if watch is not None and not results and not failures and (hang := watch.hang()):
            raise RankError(f"{hang}; all ranks were stopped")
        for inbox, index in [item for item in running.items() if item[0] in ready]:
            match _receive(inbox):
                case _Message(value) if not failures:
                    _answer(inbox, on_message(value))
                case _Result(value):
                    results[index] = value
                case _Failure() as failure:
                    failures[index] = failure
                case None:
                    del running[inbox]
                    if index not in results and index not in failures:
                        failures[index] = _death(index, ranks[index].process)
        if failures and deadline_s == inf:
            deadline_s = time.monotonic() + _GRACE_S
    if failures:
        raise min(failures.values(), key=lambda failure: failure.at_s).error
    return [results[index] for index in range(len(ranks))]


def _receive(inbox: Connection) -> _Message | _Result | _Failure | None:
    try:
        return inbox.recv()
    except (EOFError, ConnectionResetError):
        return None


def _answer(inbox: Connection, answer: Any) -> None:
    with suppress(BrokenPipeError):  # a rank that has died meanwhile is heard of by its end
        inbox.send(answer)


def _death(rank: int, process: BaseProcess) -> _Failure:
    """Explains a rank that ended without a word: the cause of whatever the others complain of."""
    process.join(_STOP_TIMEOUT_S)
    code = process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " (when memory runs out, the system does so)" if name == "SIGKILL" else ""
        how = f"was killed by {name}{hint}"
    else:
        how = f"ended unexpectedly with status {code}"
    return _Failure(RankError(f"rank {rank} {how}; the other ranks were stopped"), at_s=-inf)


def _stop(ranks: Sequence[_Rank]) -> None:
    for process, _ in ranks:
        process.terminate()
    deadline_s = time.monotonic() + _STOP_TIMEOUT_S
    for process, inbox in ranks:
        process.join(max(0.0, deadline_s - time.monotonic()))
        process.kill()
        process.join()
        inbox.close()


def _run(
    main: Callable[..., Any],
    rank: int,
    outbox: Connection,
    arguments: Sequence[Any],
    expected: tuple[type[Exception], ...],
    cells: Any,
) -> None:
    """Is what a rank's process does, and all it does.

    The interpreter's own end would take the lock from under native threads that call back into
    Python, such as a process group's, and they abort of it.
    """
    code = 1
    try:
        signal.signal(signal.SIGTERM, _leave)
        signal.signal(_ASKED, _end_well)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [_ASKED])
        threading.Thread(target=_leave_with_parent, daemon=True).start()
        heartbeat.start(cells, rank)
        _report(main, rank, outbox, arguments, expected)
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _report(
    main: Callable[..., Any],
    rank: int,
    outbox: Connection,
    arguments: Sequence[Any],
    expected: tuple[type[Exception], ...],
) -> None:
    def ask(value: Any) -> Any:
        outbox.send(_Message(value))
        return outbox.recv()

    try:
        outbox.send(_Result(main(rank, ask, *arguments)))
    except expected as error:
        outbox.send(_Failure(error, time.monotonic()))
    except Exception as error:
        summary = f"rank {rank} failed: {type(error).__name__}: {error}"
        details = traceback.format_exc()
        outbox.send(_Failure(RankError(f"{summary}\n\n{details}"), time.monotonic()))


def _leave(signum: int, _: FrameType | None) -> NoReturn:
    signal.signal(signum, signal.SIG_IGN)
    raise SystemExit(128 + signum)  # unwinds, so that files half-written are removed


def _end_well(signum: int, frame: FrameType | None) -> None:
    if interrupts.is_held_back():
        interrupts.ask(signum)
    else:
        _leave(signum, frame)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this process was started by another
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_STOP_TIMEOUT_S)
    os._exit(1)
