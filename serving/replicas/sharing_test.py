"""Large tensors between processes: equal bit for bit, whatever is cancelled, in bounded memory."""

import asyncio
import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from serving.core.channel import Computed, Job
from serving.core.errors import Kind, ServingError
from serving.replicas.channel import ReplicaChannel
from serving.replicas.connecting import connect
from serving.replicas.limits import DEFAULT, Limits
from serving.testing.jobs import PATIENT, WAIT_S, do
from serving.testing.local_replica import run, settled
from serving.testing.replica_process import ReplicaProcess, replica_process

MIB = 2**20


@pytest.fixture(scope="module")
def process() -> Iterator[ReplicaProcess]:
    with replica_process(limits=PATIENT) as running:
        yield running


async def channel_to(
    process: ReplicaProcess, way: int = 0, arena_bytes: int = 64 * MIB, limits: Limits = PATIENT
) -> ReplicaChannel:
    return await connect(
        process.addresses[way],
        process.token,
        lambda: None,
        limits=limits,
        arena_bytes=arena_bytes,
    )


def parts_of(rng: np.random.Generator, size: int) -> list[np.ndarray]:
    """Random bytes [n_i, width] that do not begin with what makes the replica sleep."""
    width = int(rng.integers(1, 2000))
    rows = max(1, size // width)
    x = rng.integers(0, 255, (rows, width), np.uint8)
    cuts = sorted(rng.integers(0, rows + 1, 2))
    return [part for part in np.split(x, cuts) if len(part)]


def job(parts: list[np.ndarray]) -> Job:
    return Job({"x": parts}, sum(map(len, parts)), ("y",), WAIT_S)


def expected(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) + np.uint8(1)


@pytest.mark.parametrize("way", ["arena", "unix", "tcp"])
@pytest.mark.parametrize("size", [DEFAULT.shared_min_bytes - 1, DEFAULT.shared_min_bytes, 20 * MIB])
def test_large_tensors_are_equal_bit_for_bit(process: ReplicaProcess, way: str, size: int) -> None:
    parts = parts_of(np.random.default_rng(size), size)

    async def test() -> None:
        channel = await channel_to(process, int(way == "tcp"), 64 * MIB if way == "arena" else 0)
        for _ in range(3):
            answer = await run(channel, job(parts))
            np.testing.assert_array_equal(answer.outputs["y"], expected(parts))
            assert not answer.outputs["y"].flags.writeable
        channel.close()
        # What was received stays, though the connection is gone.
        np.testing.assert_array_equal(answer.outputs["y"], expected(parts))

    do(test)


def _in_an_arena(array: np.ndarray) -> bool:
    """Whether an array is in memory that is shared, by what the kernel says of this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(address, 16) for address in line.split()[0].split("-"))
        if begin <= array.ctypes.data < end:
            return "hpc-arena" in line
    raise AssertionError("the array is nowhere")


@pytest.mark.parametrize(("size", "shared"), [(DEFAULT.shared_min_bytes, 1), (1000, 0)])
def test_what_is_large_is_shared(process: ReplicaProcess, size: int, shared: int) -> None:
    async def test() -> None:
        channel = await channel_to(process)
        results: list[Any] = []
        channel.submit(job([np.zeros((1, size), np.uint8)]), results.append)
        assert channel.shared_bytes == -(-size // 64) * 64 * shared
        await settled(lambda: bool(results))
        assert channel.shared_bytes == 0
        assert _in_an_arena(results[0].outputs["y"]) == bool(shared)
        channel.close()

    do(test)


@pytest.mark.parametrize("seed", range(3))
def test_nobody_reads_what_the_other_has_used_again(process: ReplicaProcess, seed: int) -> None:
    """Many jobs of all sizes, half of them cancelled at some time, answers held for some time."""
    rng = np.random.default_rng(seed)
    limits = replace(PATIENT, shared_min_bytes=1000)

    async def test() -> None:
        # Small, so that memory is used again at once, and often there is none.
        channel = await channel_to(process, arena_bytes=2 * MIB, limits=limits)
        held: list[tuple[np.ndarray, list[np.ndarray]]] = []
        answered = 0

        def on_done(parts: list[np.ndarray], result: object) -> None:
            nonlocal answered
            if isinstance(result, ServingError):
                assert result.kind is Kind.CANCELLED
                return
            assert isinstance(result, Computed)
            answered += 1
            held.append((result.outputs["y"], parts))

        for _ in range(300):
            parts = parts_of(rng, int(10 ** rng.uniform(1, 5.8)))
            cancel = channel.submit(job(parts), lambda r, parts=parts: on_done(parts, r))
            if rng.random() < 0.5:
                asyncio.get_running_loop().call_later(rng.uniform(0, 0.005), cancel)
            await settled(lambda: channel.in_flight <= 6)
            while len(held) > 4:
                output, sent = held.pop(int(rng.integers(len(held))))
                np.testing.assert_array_equal(output, expected(sent))
        await settled(lambda: channel.in_flight == 0)
        for output, sent in held:
            np.testing.assert_array_equal(output, expected(sent))
        assert 0 < answered <= 300
        assert channel.shared_bytes == 0
        channel.close()

    do(test)


def test_without_room_in_the_arena_the_socket_is_taken(process: ReplicaProcess) -> None:
    async def test() -> None:
        channel = await channel_to(process, arena_bytes=4 * MIB)
        rng = np.random.default_rng(0)
        sent = [parts_of(rng, MIB) for _ in range(20)]
        # None of these answers is let go, of which the arena can hold three or four.
        answers = [await run(channel, job(parts)) for parts in sent]
        for parts, answer in zip(sent, answers, strict=True):
            np.testing.assert_array_equal(answer.outputs["y"], expected(parts))
        larger = parts_of(rng, 5 * MIB)
        answer = await run(channel, job(larger))
        np.testing.assert_array_equal(answer.outputs["y"], expected(larger))
        channel.close()

    do(test)


def _resident() -> int:
    return psutil.Process().memory_info().rss


@pytest.mark.parametrize("way", ["arena", "unix", "tcp"])
def test_memory_stays_bounded_over_many_large_jobs(
    process: ReplicaProcess, way: str, record_property: Callable[[str, object], None]
) -> None:
    async def test() -> None:
        channel = await channel_to(process, int(way == "tcp"), 64 * MIB if way == "arena" else 0)
        x = np.zeros((8, MIB), np.uint8)
        replica = psutil.Process(channel.pid)

        async def jobs(count: int) -> tuple[int, int]:
            for i in range(count):
                x[:, 0] = i
                answer = await run(channel, job([x]))
                assert answer.outputs["y"][7, 0] == i + 1
                # One of two is cancelled.
                channel.submit(job([x]), lambda _: None)()
            await settled(lambda: channel.in_flight == 0)
            gc.collect()
            return _resident(), replica.memory_info().rss

        before = await jobs(10)
        after = await jobs(60)  # a gigabyte there and half of one back
        grown = [b - a for a, b in zip(before, after, strict=True)]
        record_property("gateway grew", f"{grown[0] / MIB:.1f} MiB")
        record_property("replica grew", f"{grown[1] / MIB:.1f} MiB")
        assert max(grown) < 64 * MIB
        channel.close()

    do(test)


def test_connections_leave_nothing_behind(process: ReplicaProcess) -> None:
    def held(pid: int) -> tuple[int, int]:
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        return len(os.listdir(f"/proc/{pid}/fd")), sum("hpc-arena" in line for line in maps)

    async def once() -> None:
        channel = await channel_to(process)
        await run(channel, job([np.zeros((1, MIB), np.uint8)]))
        channel.close()

    async def test() -> None:
        ours, theirs = os.getpid(), process.process.pid
        await once()
        gc.collect()
        await settled(lambda: held(theirs)[1] == 0)
        before = held(ours), held(theirs)
        for _ in range(10):
            await once()
        gc.collect()
        await settled(lambda: (held(ours), held(theirs)) == before)

    do(test)
