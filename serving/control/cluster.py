"""A Ray for the life of one gateway: a private one on this machine, or one that others run too."""

import asyncio
import atexit
import logging
import os
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import ray
import ray._private.worker as ray_worker

from serving.control import applications, joining
from serving.control.addresses import LOCAL
from serving.control.home import Home, home
from serving.control.object_store import object_store
from serving.control.ray_thread import RayThread
from serving.control.reaper import MARK
from serving.errors import StartError

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger(__name__)

# The private Ray's own count of cores, which it needs for nothing but to let replicas start: as
# many as are asked for, and a new version beside the old one. Threads are limited otherwise.
LOGICAL_CPUS = 10_000

# What stops Ray when a gateway ends must not stop it before the gateway has drained. A terminal
# that closes, and a supervisor such as systemd, send these to all processes of a gateway.
_HELD_BACK = (signal.SIGHUP, signal.SIGTERM)

# How long joining a cluster may take. Ray itself would try for ever.
_JOIN_S = 60.0

# How long a Ray that is gone may take to notice that we leave it. Without its head it takes 5 s.
_LOST_S = 10.0


class RayGoneError(Exception):
    """There is no Ray to ask any more; the message says why."""


@dataclass
class Cluster:
    """A Ray that a gateway uses.

    Attributes:
        gateway: A name that no other gateway has, by which all that it starts is known.
        home: The gateway's directory.
        is_private: It is this gateway's alone and ends with it.
        node: Of this machine, as Ray knows it.
        job: Of this process, as Ray knows it.
        token: What replicas and this gateway prove to each other to know. They get it by Ray.
        processes: Of a private one, by name: without these it does not work.
        places: Of one that was joined, where such processes listen.
        lost: Why it is gone; "" while it is there.
    """

    gateway: str
    home: Home
    is_private: bool
    node: str
    job: str
    token: bytes = field(repr=False)
    processes: Mapping[str, int]
    places: Mapping[str, tuple[str, int]]
    thread: RayThread = field(repr=False)
    lost: str = ""
    _gone: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def lose(self, reason: str) -> None:
        """Has it that Ray is gone: nobody asks it any more, or waits for what it was asked."""
        self.lost = reason
        self._gone.set()

    async def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls a function that asks Ray something, without holding up the event loop.

        Raises:
            RayGoneError: Ray is gone, or it goes meanwhile. It might not answer for a minute.
        """
        if self.lost:
            raise RayGoneError(self.lost)
        asking = asyncio.ensure_future(self.thread.call(function, *args, **kwargs))
        going = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait([asking, going], return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
            raise RayGoneError(self.lost)
        finally:
            going.cancel()
            asking.cancel()


@asynccontextmanager
async def ray_cluster(ray_address: str = LOCAL) -> AsyncIterator[Cluster]:
    """Starts a private Ray or joins one, and ends what was started.

    A private Ray listens on loopback, has a token that never leaves its processes, and is ended
    with all its files, even if this process is killed. Of a cluster that is joined nothing ends but
    what was placed there; if this process is killed, that ends by itself (hosting.py).

    Args:
        ray_address: As `check_ray_address` accepts it. `isolate` must have been called
            with the same.

    Raises:
        StartError: Ray could not start, or there is none at that address.
    """
    thread, stack = RayThread(), ExitStack()
    cluster, is_stuck = None, False
    try:
        cluster = await _limited(thread.call(_enter, stack, ray_address, thread), ray_address)
        yield cluster
    except _StuckError as error:
        is_stuck = True
        raise StartError(str(error)) from error
    finally:
        await _leave(thread, cluster, is_stuck=is_stuck)
        await asyncio.to_thread(stack.close)


def _enter(stack: ExitStack, ray_address: str, thread: RayThread) -> Cluster:
    # Ray would print several lines about each replica that dies; we say it in one.
    ray_worker.print_to_stdstream = lambda *_, **__: None
    here = stack.enter_context(home())
    is_private = ray_address == LOCAL
    if is_private:
        _start(here)
    else:
        _join(ray_address)
    context = ray.get_runtime_context()
    return Cluster(
        gateway=here.directory.name,
        home=here,
        is_private=is_private,
        node=context.get_node_id(),
        job=context.get_job_id(),
        token=secrets.token_bytes(32),
        processes=_processes() if is_private else {},
        places={} if is_private else joining.places(context.get_node_id()),
        thread=thread,
    )


def _start(here: Home) -> None:
    # Ray opens its directory to all users of the machine; the one around it is closed to them.
    directory = here.directory / "ray"
    # RAY_AUTH_MODE is unset (environment.py), which means to authenticate a new cluster by token.
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    # Ray's processes give themselves titles, written over their environment unless this is set.
    marks = {MARK: str(here.directory), "SPT_NOENV": "1"}
    os.environ.update(marks)
    free_mib = shutil.disk_usage(here.directory).free // 2**20  # of too few it says nothing clear
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)  # which children inherit
    try:
        _init(
            f"Ray could not start; its files were in {directory}, with {free_mib} MiB free",
            address=LOCAL,  # by default it joins a Ray that it finds on this machine
            num_cpus=LOGICAL_CPUS,
            include_dashboard=False,
            **object_store(here.directory),
            _temp_dir=str(directory),
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        # What this process starts besides Ray is not the watchdog's to kill.
        for name in marks:
            del os.environ[name]


class _StuckError(Exception):
    """Ray does not come back from a call, and the thread of the call neither."""


async def _limited(entering: Coroutine[Any, Any, Cluster], ray_address: str) -> Cluster:
    """Waits for a Ray; for one that others run, not for ever."""
    try:
        async with asyncio.timeout(None if ray_address == LOCAL else _JOIN_S):
            return await entering
    except TimeoutError as error:
        raise _StuckError(
            f"the Ray at {ray_address} did not let this gateway join within {_JOIN_S:g} s"
        ) from error


async def _leave(thread: RayThread, cluster: Cluster | None, *, is_stuck: bool) -> None:
    is_lost = is_stuck or (cluster is not None and cluster.lost != "")
    if cluster is not None and not is_lost and not cluster.is_private:
        try:
            await asyncio.wait_for(thread.call(applications.delete_all, cluster.gateway), _LOST_S)
        except Exception as error:  # of Ray's, or it does not answer; what is left ends by itself
            _log.warning("Ray was not told to end what this gateway has placed: %s", error)
    # Also after what was cancelled in the midst of starting: its turn comes after it.
    leaving = thread.call(_disconnect)
    try:
        await (asyncio.wait_for(leaving, _LOST_S) if is_lost else leaving)
    except TimeoutError:
        # A thread is in Ray's core and stays there. Python would end under its feet, and crash.
        atexit.register(_end_at_once)
    thread.end()


def _end_at_once() -> None:
    """Ends the process as one that has failed, with nothing of what else would be done at its end.

    It is called first of all that is to be called then, as it was registered last.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(1)


def _disconnect() -> None:
    """Leaves Ray. Of a private one the processes are left for the watchdog to end.

    Ray itself would ask each to end by a signal that is held back, and wait a second for it.
    """
    ray_worker._global_node = None
    ray.shutdown()


def _join(ray_address: str) -> None:
    address = joining.find_cluster(ray_address)
    _init(
        f"cannot join the Ray at {address}; is this machine part of it, and RAY_AUTH_TOKEN or "
        "RAY_AUTH_TOKEN_PATH its token?",
        address=address,
    )


def _init(failed: str, **options: Any) -> None:
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray documents none, and raises many
        raise StartError(f"{failed} ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _processes() -> Mapping[str, int]:
    """The two processes without which the private Ray is none, by what they are to people."""
    node = ray_worker._global_node
    kinds = {"head (gcs_server)": "gcs_server", "raylet": "raylet"}
    return {name: node.all_processes[kind][0].process.pid for name, kind in kinds.items()}
