"""Whether the Ray of a gateway is still there. Ray itself says so after a minute, and ends us."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from serving.control.cluster import Cluster

# Of a cluster that was joined: how often it is seen whether somebody listens there, and how long
# nobody may. The kernel accepts a connection, however busy the process is that asked it to.
_PROBE_PERIOD_S, _PROBE_S, _ABSENT_S = 0.5, 1.0, 1.5


async def watch(cluster: Cluster, lost: Callable[[str], None]) -> None:
    """Waits until the cluster is gone, and says so, in `cluster.lost` too.

    Of a private Ray it is the end of a process that is seen, in the moment in which it happens.

    Args:
        cluster: To watch.
        lost: Called once with the reason, in words for people.
    """
    ends = [_end_of(name, pid) for name, pid in cluster.processes.items()]
    absences = [_absence_of(name, place) for name, place in cluster.places.items()]
    cluster.lose(await _first([*ends, *absences]))
    lost(cluster.lost)


async def _first(reasons: Iterable[Awaitable[str]]) -> str:
    tasks = [asyncio.ensure_future(reason) for reason in reasons]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _end_of(name: str, pid: int) -> str:
    """Waits for the end of a process."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    with suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            loop.add_reader(process, ended.set)
            await ended.wait()
        finally:
            loop.remove_reader(process)
            os.close(process)
    return f"Ray is gone: its {name}, process {pid}, has ended"


async def _absence_of(name: str, place: tuple[str, int]) -> str:
    """Waits until nobody listens at a place, again and again."""
    loop = asyncio.get_running_loop()
    seen = loop.time()
    while True:
        error = await _probe(*place)
        if error is None:
            seen = loop.time()
        elif loop.time() - seen >= _ABSENT_S:
            return f"Ray is gone: its {name} does not answer at {place[0]}:{place[1]} ({error})"
        await asyncio.sleep(_PROBE_PERIOD_S)


async def _probe(host: str, port: int) -> OSError | TimeoutError | None:
    """Connects and says nothing; returns why that is not possible."""
    try:
        async with asyncio.timeout(_PROBE_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as error:  # TimeoutError is one
        return error
    writer.close()
    return None
