"""Whether a Ray is still there, told by its processes or by where it listens."""

import asyncio
import dataclasses
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from serving.control.cluster import Cluster, RayGoneError
from serving.control.home import Home
from serving.control.ray_thread import RayThread
from serving.control.supervision import watch

NOTHING = Cluster(
    gateway="gateway",
    home=Home(Path("unused"), "unused"),
    is_private=True,
    node="unused",
    job="unused",
    token=b"",
    processes={},
    places={},
    thread=RayThread(),
)


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def listener() -> tuple[socket.socket, tuple[str, int]]:
    listening = socket.create_server(("127.0.0.1", 0))
    return listening, listening.getsockname()


async def watched(cluster: Cluster) -> tuple[asyncio.Task[None], list[str]]:
    reasons: list[str] = []
    task = asyncio.create_task(watch(cluster, reasons.append))
    await asyncio.sleep(0.1)
    assert reasons == []
    assert cluster.lost == ""
    return task, reasons


def test_the_end_of_a_process_is_told_once() -> None:
    first, second = sleeper(), sleeper()
    processes: Mapping[str, int] = {"head": first.pid, "raylet": second.pid}
    cluster = dataclasses.replace(NOTHING, processes=processes)

    async def test() -> None:
        task, reasons = await watched(cluster)
        second.kill()
        await task
        assert reasons == [f"Ray is gone: its raylet, process {second.pid}, has ended"]
        assert cluster.lost == reasons[0]

    asyncio.run(test())
    first.kill()
    assert {first.wait(60), second.wait(60)} == {-9}


def test_a_process_that_has_ended_before_is_told_too() -> None:
    process = sleeper()
    process.kill()
    process.wait(60)
    cluster = dataclasses.replace(NOTHING, processes={"head": process.pid})
    asyncio.run(watch(cluster, lambda reason: None))
    assert cluster.lost == f"Ray is gone: its head, process {process.pid}, has ended"


def test_a_place_where_nobody_listens_any_more_is_told() -> None:
    stays, there = listener()
    goes, here = listener()

    async def test() -> None:
        cluster = dataclasses.replace(NOTHING, places={"head": there, "raylet": here})
        task, reasons = await watched(cluster)
        goes.close()
        await task
        assert reasons[0].startswith(
            f"Ray is gone: its raylet does not answer at {here[0]}:{here[1]} ("
        )

    asyncio.run(test())
    stays.close()


def test_a_busy_ray_is_not_gone() -> None:
    # Whoever listens and never accepts: the kernel does it for him, as far as the queue goes.
    listening, place = listener()

    async def test() -> None:
        task, reasons = await watched(dataclasses.replace(NOTHING, places={"head": place}))
        await asyncio.sleep(2)  # longer than it may be absent
        assert reasons == []
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(test())
    listening.close()


def test_nobody_waits_for_a_ray_that_goes() -> None:
    hold = threading.Event()

    async def test() -> None:
        cluster = dataclasses.replace(NOTHING, thread=RayThread(), _gone=asyncio.Event())
        assert await cluster.call(lambda: "an answer") == "an answer"
        waiting = asyncio.create_task(cluster.call(hold.wait))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        cluster.lose("Ray is gone: a test says so")
        for call in (waiting, cluster.call(lambda: "an answer")):
            with pytest.raises(RayGoneError, match="a test says so"):
                await call
        hold.set()

    asyncio.run(test())
