"""Times the ways between two processes: Unix socket, TCP, shared memory, Ray's object store.

    ./bazelw run -c opt //serving/replicas:transport_bench
    ./bazelw run -c opt //serving/replicas:transport_bench -- --without-ray

The first table is of one job at a time, there and back: so many bytes go, and the same bytes are
the answer. Both sides touch every page. The ways take turns, again and again, so that a busy
machine slows all alike. The second is of jobs of 1 KB, so many of them in flight at once.

`serving.replicas.limits.Limits.shared_min_bytes` is where the third way begins to win over the
first.
"""

import asyncio
import os
import resource
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from base.interrupts import exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports("interrupted")

import numpy as np
import uvloop

from base.options import Parser, count_from_two
from serving.core.channel import Job
from serving.replicas.channel import ReplicaChannel
from serving.replicas.connecting import connect
from serving.replicas.limits import DEFAULT
from serving.testing.local_replica import run
from serving.testing.replica_process import ReplicaProcess, replica_process

SIZES = tuple(2**exponent for exponent in (10, 14, 16, 17, 18, 19, 20, 22, 24, 26))

# Jobs of 1 KB in flight, and how many are sent in a block.
DEPTHS, BLOCK_JOBS = (1, 2, 8, 32), 2000

# For memory that is used again and again to be there, and for everything to be imported.
WARM_ROUNDS = 5

# Rounds of one size move so many bytes at most, or are MIN_ROUNDS.
BYTES_A_SIZE, MIN_ROUNDS = 2**31, 20

PAGE_BYTES = resource.getpagesize()

ThereAndBack = Callable[[np.ndarray], Awaitable[np.ndarray]]


def main() -> None:
    """Prints two tables."""
    parser = Parser(__doc__)
    parser.add_argument("--rounds", type=count_from_two, default=500, help="of a size, at most")
    parser.add_argument("--without-ray", action="store_true", help="leave Ray's object store out")
    args = parser.parse_args()
    with replica_process(touched, limits=replace(DEFAULT, shared_min_bytes=0)) as replica:
        uvloop.run(_measure(replica, args.rounds, not args.without_ray))


def touched(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Reads a byte of every page, and gives what it was given."""
    _touch(inputs["x"])
    return {"y": inputs["x"]}


def _touch(x: np.ndarray) -> None:
    x[:, ::PAGE_BYTES].sum()


async def _measure(replica: ReplicaProcess, rounds: int, with_ray: bool) -> None:
    async with AsyncExitStack() as stack:
        # First, since it holds up the event loop for longer than a replica bears.
        ray = {"Ray": await stack.enter_async_context(_ray())} if with_ray else {}
        unix, tcp = replica.addresses
        limits = replace(DEFAULT, shared_min_bytes=0)
        channels = {
            "Unix": await connect(unix, replica.token, _nothing, arena_bytes=0),
            "TCP": await connect(tcp, replica.token, _nothing),
            "shared": await connect(unix, replica.token, _nothing, limits=limits),
        }
        ways = {name: _by(channel) for name, channel in channels.items()}
        await _by_size(ways | ray, rounds)
        print()
        await _by_depth({name: channels[name] for name in ("Unix", "TCP")})
        for channel in channels.values():
            channel.close()


def _nothing() -> None:
    pass


def _by(channel: ReplicaChannel) -> ThereAndBack:
    async def there_and_back(x: np.ndarray) -> np.ndarray:
        answer = await run(channel, Job({"x": [x]}, 1, ("y",), 60.0))
        return answer.outputs["y"]

    return there_and_back


@asynccontextmanager
async def _ray() -> AsyncIterator[ThereAndBack]:
    """An actor of a Ray of its own; what is large goes by its object store, as Ray decides."""
    # Otherwise it would make one and keep it in the home directory.
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    import ray

    class Echo:
        """Gives what it was given."""

        def echo(self, x: np.ndarray) -> np.ndarray:
            """See the class."""
            return touched({"x": x})["y"]

    with tempfile.TemporaryDirectory(prefix="hpc-", dir="/tmp") as directory:
        ray.init(
            address="local",
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=2**30,
            _temp_dir=directory,
        )
        try:
            actor = ray.remote(Echo).remote()

            async def there_and_back(x: np.ndarray) -> np.ndarray:
                return await actor.echo.remote(x)

            yield there_and_back
        finally:
            ray.shutdown()


async def _by_size(ways: Mapping[str, ThereAndBack], rounds: int) -> None:
    """Prints medians, and between them the 10th and the 90th percentile, in microseconds."""
    print("bytes".rjust(10), *(f"{f'{name} us':>26}" for name in ways))
    for size in SIZES:
        x = np.frombuffer(secrets.token_bytes(size), np.uint8).reshape(1, size)
        times: dict[str, list[float]] = {name: [] for name in ways}
        order = np.random.default_rng(size)
        for _ in range(max(MIN_ROUNDS, min(rounds, BYTES_A_SIZE // size)) + WARM_ROUNDS):
            # Whoever follows the slowest finds the coldest cache.
            for name in order.permutation(list(ways)):
                begin = time.perf_counter()
                _touch(await ways[name](x))
                times[name].append(time.perf_counter() - begin)
        print(f"{size:10}", *(_spread(of_way[WARM_ROUNDS:]) for of_way in times.values()))


def _spread(times: list[float]) -> str:
    low, median, high = 1e6 * np.percentile(times, [10, 50, 90])
    return f"{median:10.0f} {f'({low:.0f} - {high:.0f})':>15}"


async def _by_depth(channels: Mapping[str, ReplicaChannel]) -> None:
    print("way   in flight   jobs/s   p50 us   p99 us   CPU us of this side a job")
    x = np.zeros((1, 1024), np.uint8)
    job = Job({"x": [x]}, 1, ("y",), 60.0)
    for depth in DEPTHS:
        for name, channel in channels.items():
            blocks = [await _block(channel, job, depth) for _ in range(WARM_ROUNDS + 15)]
            rates, cpus, latencies = zip(*blocks[WARM_ROUNDS:], strict=True)
            p50, p99 = 1e6 * np.percentile(np.concatenate(latencies), [50, 99])
            print(
                f"{name:5} {depth:9} {np.median(rates):8.0f} {p50:8.0f} {p99:8.0f} "
                f"{1e6 * np.median(cpus):8.1f}"
            )


async def _block(channel: ReplicaChannel, job: Job, depth: int) -> tuple[float, float, list[float]]:
    """Sends jobs, so many at once; returns jobs a second, CPU seconds a job, and latencies."""
    latencies: list[float] = []
    done = asyncio.Event()
    left = BLOCK_JOBS

    def send() -> None:
        nonlocal left
        left -= 1
        begun = time.perf_counter()

        def on_done(_: object) -> None:
            latencies.append(time.perf_counter() - begun)
            if left:
                send()
            elif len(latencies) == BLOCK_JOBS:
                done.set()

        channel.submit(job, on_done)

    begin, cpu = time.perf_counter(), time.process_time()
    for _ in range(depth):
        send()
    await done.wait()
    seconds, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
    return BLOCK_JOBS / seconds, cpu_s / BLOCK_JOBS, latencies


if __name__ == "__main__":
    with exit_when_interrupted("interrupted"):
        main()
