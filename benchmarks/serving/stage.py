"""All servers of one model, up and asked in turns."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.harness.load import OtherLoad
from benchmarks.harness.suite import FailedError
from benchmarks.serving.job import predict_of
from benchmarks.serving.processes import Process, free_ports, running, taken
from benchmarks.serving.served import Served
from benchmarks.serving.sides import SERVERS, SIDES, Caller
from benchmarks.serving.wire import unlike
from serving.client.load import Call, LoadResult, run_closed

# Asks by a function that asks once.
Load = Callable[[Call], Awaitable[LoadResult]]

# To be up, on a busy machine too.
_START_S = 180.0
_ASK_AGAIN_S = 0.2

# The same network on the same processor; batches of another size add up in another order.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4

# Of a turn, before it is timed: connections are made, and a paused server wakes up.
_LEAD_IN_S = 0.15
_LEAD_IN_CALLERS = 4

_IDLE_S = 1.0


class Turn(NamedTuple):
    """What one side did in one turn.

    Attributes:
        result: What became of the requests.
        server_cpu_s: What the server's processes took of the processors meanwhile.
        client_cpu_s: What this process took.
        others_cores: How many cores all others kept busy.
    """

    result: LoadResult
    server_cpu_s: float
    client_cpu_s: float
    others_cores: float


class Rest(NamedTuple):
    """What a server takes when nobody asks.

    Attributes:
        ready_s: From its start until it answered, while others started too.
        cores: How many it keeps busy.
        resident_bytes: Of all its processes; what they share counts in each.
    """

    ready_s: float
    cores: float
    resident_bytes: int


class Stage:
    """Servers of one model that all answer rightly.

    Args:
        processes: Of the servers, by name.
        ports: Of each.
        requests: Of each side, over and over; answers are right for all of them.
        ready_s: What each server took to be up.
    """

    def __init__(
        self,
        processes: Mapping[str, Process],
        ports: Mapping[str, Sequence[int]],
        requests: Mapping[str, Sequence[bytes]],
        ready_s: Mapping[str, float],
    ) -> None:
        self._processes, self._ports = processes, ports
        self._requests, self._ready_s = requests, ready_s
        # Of requests that are unlike all others, in all turns.
        self._numbers = itertools.count()

    @property
    def sides(self) -> list[str]:
        """Who can be asked."""
        return [*self._requests]

    async def take_turn(self, side: str, load: Load) -> Turn:
        """Has one side asked, while those that can be paused are paused.

        Raises:
            FailedError: Its server has ended.
        """
        server = SIDES[side].server
        process = self._processes[server]
        if words := process.has_ended():
            raise FailedError(f"{server} has ended with {words}")
        process.go_on()
        caller = SIDES[side].connect(self._ports[server])
        ask = self._asking(caller, side)
        try:
            await run_closed(ask, _LEAD_IN_CALLERS, _LEAD_IN_S)
            others, before, own_s = OtherLoad(), taken(), time.process_time()
            result = await load(ask)
            client_cpu_s, after = time.process_time() - own_s, taken()
            busy_cores = others.cores()
        finally:
            await caller.close()
            if SERVERS[server].may_pause:
                process.pause()
        servers_s = {
            name: after[one.session].cpu_s - before[one.session].cpu_s
            for name, one in self._processes.items()
        }
        # What is busy besides this process, the servers among them.
        others_cores = max(0.0, busy_cores - sum(servers_s.values()) / result.elapsed_s)
        return Turn(result, servers_s[server], client_cpu_s, others_cores)

    def _asking(self, caller: Caller, side: str) -> Call:
        """Returns a function that sends the next request, after the last the first again."""
        following, ask = itertools.cycle(self._requests[side]).__next__, caller.ask
        if SIDES[side].never_again:
            number = self._numbers.__next__
            return lambda: ask(unlike(following(), number()))
        return lambda: ask(following())

    async def rest(self) -> dict[str, Rest]:
        """Returns what each server takes when nobody asks."""
        for process in self._processes.values():
            process.go_on()
        await asyncio.sleep(_IDLE_S)
        before = taken()
        await asyncio.sleep(_IDLE_S)
        after = taken()
        for name, process in self._processes.items():
            if SERVERS[name].may_pause:
                process.pause()
        return {
            name: Rest(
                self._ready_s[name],
                (after[one.session].cpu_s - before[one.session].cpu_s) / _IDLE_S,
                after[one.session].resident_bytes,
            )
            for name, one in self._processes.items()
        }


@asynccontextmanager
async def stage(
    served: Served, servers: Sequence[str], examples: np.ndarray, directory: Path
) -> AsyncIterator[Stage]:
    """Starts the servers of a model, all at once, and ends them with the block.

    Args:
        served: The model.
        servers: Of `SERVERS`, by name.
        examples: [count, ...] float32, each of which is asked about in turn.
        directory: For the servers' logs.

    Raises:
        FailedError: A server does not come up, or answers wrongly.
    """
    expected = predict_of(served.job)(examples)
    with ExitStack() as stack:
        processes, ports, started = {}, {}, time.monotonic()
        for name in servers:
            ports[name] = free_ports(SERVERS[name].num_ports)
            command = SERVERS[name].command(served, ports[name])
            log = directory / f"{served.job.name}-{name}.log"
            ours = SERVERS[name].in_our_environment
            processes[name] = stack.enter_context(running(command, log, ours=ours))
        requests: dict[str, Sequence[bytes]] = {}
        ready_s: dict[str, float] = {}
        for name, side in SIDES.items():
            if side.server in processes:
                requests[name] = [side.request(served.job, example) for example in examples]
                process, port = processes[side.server], ports[side.server]
                await require_right(name, process, side.connect(port), requests[name], expected)
                ready_s[side.server] = time.monotonic() - started
        for name, process in processes.items():
            if SERVERS[name].may_pause:
                process.pause()
        yield Stage(processes, ports, requests, ready_s)


async def require_right(
    name: str,
    process: Process,
    caller: Caller,
    requests: Sequence[bytes],
    expected: np.ndarray,
) -> None:
    """Waits until a side answers, then compares all its answers with the model's own.

    Args:
        name: Of the side.
        process: Of its server.
        caller: Is closed.
        requests: One for each example.
        expected: [len(requests), ...], what the model says.

    Raises:
        FailedError: It ends, does not answer, or answers something else.
    """
    deadline = time.monotonic() + _START_S
    while True:
        try:
            await caller.ask(requests[0])
            break
        except Exception as error:  # of a server that is not up yet, whatever it says
            if words := process.has_ended():
                raise FailedError(f"{name}: its server has ended with {words}") from error
            if time.monotonic() > deadline:
                raise FailedError(f"{name} does not answer: {error}") from error
            await asyncio.sleep(_ASK_AGAIN_S)
    answers = [SIDES[name].answer(await caller.ask(request)).ravel() for request in requests]
    await caller.close()
    right = expected.reshape(len(requests), -1)
    if not np.allclose(answers, right, rtol=_RELATIVE, atol=_ABSOLUTE):
        raise FailedError(f"{name} answers {answers[0]}, which should be {right[0]}")
