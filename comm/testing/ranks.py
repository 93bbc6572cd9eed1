"""Runs a function in several processes joined by gloo over the loopback interface.

For tests, and for whatever else simulates a cluster on one machine:

    def work(rank: int, world_size: int, scale: float) -> float:
        x = torch.full([10], scale * rank)
        torch.distributed.all_reduce(x)
        return x[0].item()

    assert ranks.run(work, 4, 0.5) == [3.0, 3.0, 3.0, 3.0]

The processes are forked from a server that has imported torch once, so that all runs but the first
take a tenth of a second. They see the environment of the first run's time; hand over what differs
by `env`.
"""

import contextlib
import datetime
import importlib
import importlib.util
import multiprocessing
import multiprocessing.forkserver
import os
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

# After one rank has failed the others get this long to report their own errors.
_GRACE_S = 10.0

# The last is imported by a custom operator's first call, and takes longer than all the rest.
_PRELOADED = ["torch", "torch.distributed", "torch.nn.parallel", "torch._dynamo"]

_Function = tuple[str, str, str]


def preload(*modules: str) -> None:
    """Makes processes start from one that has imported these modules, too.

    To be called before the first run; later there is a server already.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_PRELOADED, *modules])
    multiprocessing.forkserver.ensure_running()


@dataclass(frozen=True)
class Outcome:
    """What became of one rank.

    Attributes:
        value: What the function returned; None if it did not.
        error: The exception's class, message and traceback; "killed by signal 9" and the like of
            a process that ended without reporting; "" if the function returned.
        error_type: The exception's class name, "" without one.
        seconds: From the start until this rank reported or ended.
    """

    value: Any = None
    error: str = ""
    error_type: str = ""
    seconds: float = 0.0


class RanksError(AssertionError):
    """A rank failed; the message holds what each failed rank reported."""


def run(
    function: Callable[..., Any],
    world_size: int,
    *args: Any,
    timeout_s: float = 900.0,
    group_timeout_s: float = 300.0,
    env: Mapping[str, str] | None = None,
) -> list[Any]:
    """Returns what `function(rank, world_size, *args)` returned on each rank, in order.

    Args:
        function: Of a module's top level. The default process group is there when it is called
            and is destroyed when it returns.
        world_size: Number of processes.
        *args: Picklable.
        timeout_s: Of all; processes that still run then are killed.
        group_timeout_s: Of the process group, so of each collective.
        env: Set in each process before the function is called.

    Raises:
        RanksError: The function raised on some rank, or a process ended or did not end in time.
    """
    ended = outcomes(
        function,
        world_size,
        *args,
        timeout_s=timeout_s,
        group_timeout_s=group_timeout_s,
        env=env,
    )
    failed = [f"rank {i}: {outcome.error}" for i, outcome in enumerate(ended) if outcome.error]
    if failed:
        raise RanksError("\n".join(failed))
    return [outcome.value for outcome in ended]


def outcomes(
    function: Callable[..., Any],
    world_size: int,
    *args: Any,
    timeout_s: float = 900.0,
    group_timeout_s: float = 300.0,
    env: Mapping[str, str] | None = None,
    grace_s: float = _GRACE_S,
) -> list[Outcome]:
    """As `run`, but returns each rank's `Outcome` instead of raising: for tests of faults.

    Once a rank has failed, the others have `grace_s` to end.
    """
    preload()
    context = multiprocessing.get_context("forkserver")
    named = (function.__module__, function.__code__.co_filename, function.__qualname__)
    with tempfile.TemporaryDirectory() as folder:
        processes: list[BaseProcess] = []
        connections: list[Connection] = []
        try:
            for rank in range(world_size):
                receiver, sender = context.Pipe(duplex=False)
                process: BaseProcess = context.Process(
                    target=_child,
                    args=(
                        named,
                        rank,
                        world_size,
                        str(Path(folder) / "store"),
                        group_timeout_s,
                        dict(env or {}),
                        sender,
                        pickle.dumps(args),
                    ),
                    daemon=True,
                )
                process.start()
                sender.close()
                processes.append(process)
                connections.append(receiver)
            return _collect(processes, connections, timeout_s, grace_s)
        finally:
            for process in processes:
                process.kill()
                process.join()
            for connection in connections:
                connection.close()


def _collect(
    processes: Sequence[BaseProcess],
    connections: Sequence[Connection],
    timeout_s: float,
    grace_s: float,
) -> list[Outcome]:
    start = time.monotonic()
    deadline = start + timeout_s
    ended: dict[int, Outcome] = {}
    while len(ended) < len(processes):
        waiting = {connections[i]: i for i in range(len(processes)) if i not in ended}
        ready = wait(list(waiting), max(0.0, deadline - time.monotonic()))
        seconds = time.monotonic() - start
        if not ready:
            for rank in waiting.values():
                ended[rank] = Outcome(error=f"did not end within {seconds:.1f} s", seconds=seconds)
        for connection in ready:
            rank = waiting[connection]  # type: ignore[index]
            ended[rank] = _receive(processes[rank], connections[rank], seconds)
            if ended[rank].error:
                deadline = min(deadline, time.monotonic() + grace_s)
    return [ended[rank] for rank in range(len(processes))]


def _receive(process: BaseProcess, connection: Connection, seconds: float) -> Outcome:
    try:
        value, error, error_type = pickle.loads(connection.recv_bytes())  # noqa: S301  our own child's
    except EOFError:
        process.join()
        code = process.exitcode or 0
        how = f"killed by signal {-code}" if code < 0 else f"exited with status {code}"
        return Outcome(error=how, seconds=seconds)
    return Outcome(value, error, error_type, seconds)


def _child(
    named: _Function,
    rank: int,
    world_size: int,
    store: str,
    group_timeout_s: float,
    env: Mapping[str, str],
    sender: Connection,
    args: bytes,
) -> None:
    os.environ.update({"GLOO_SOCKET_IFNAME": "lo", **env})
    torch.set_num_threads(1)
    try:
        function = _find(named)
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=world_size,
            timeout=datetime.timedelta(seconds=group_timeout_s),
        )
        value = function(rank, world_size, *pickle.loads(args))  # noqa: S301  our own parent's
        report = pickle.dumps((value, "", ""))
    except BaseException as error:  # whatever it is, the parent is to see it
        report = pickle.dumps((None, traceback.format_exc(), type(error).__name__))
        sender.send_bytes(report)
        sender.close()
        # Threads of a group that failed may wait for its timeout; nobody waits for them.
        os._exit(1)
    sender.send_bytes(report)
    sender.close()
    with contextlib.suppress(Exception):
        # Nobody leaves while another still needs its connections.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _find(named: _Function) -> Callable[..., Any]:
    """Returns the function of a module that need not be on the path: pytest loads tests by file."""
    module_name, file, name = named
    try:
        module = importlib.import_module(module_name)
    except ImportError:
        spec = importlib.util.spec_from_file_location(module_name, file)
        if spec is None or spec.loader is None:
            raise
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    return getattr(module, name)
