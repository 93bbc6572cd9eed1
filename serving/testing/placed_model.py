"""A gateway as far as its control plane goes, as a program: a model in a Ray, and no protocol.

    python -m serving.testing.placed_model DIRECTORY RAYCONFIG MODELOPTIONS

It places the artifact of a directory, with both sections as JSON, and tells what happens, a line of
JSON each. It obeys lines on its standard input, `infer`, `look`, `load NUMBER`, `place` and
`remove`, and ends with it.
"""

import asyncio
import json
import os
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from registry.access import Access
from serving.configuration.model_config import ModelOptions
from serving.control.environment import isolate
from serving.control.options import RayConfig
from serving.core.channel import Channels, Job, ReplicaLostError
from serving.core.model import ServedModel, served_model
from serving.core.signature import zeros

_STARTED = time.monotonic()


def tell(event: str, **facts: object) -> None:
    """Writes a line: what has happened, and when."""
    line = {"event": event, "at_s": round(time.monotonic() - _STARTED, 3), **facts}
    print(json.dumps(line, default=str), flush=True)


async def serve(model: ServedModel, config: RayConfig, options: ModelOptions) -> int:
    """Does what the module's first lines say, and returns the status to exit with."""
    from serving.control.cluster import ray_cluster
    from serving.control.placement import Placement, Placer
    from serving.control.supervision import watch
    from serving.errors import StartError

    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    tell("imported")
    async with AsyncExitStack() as stack:
        try:
            cluster = await stack.enter_async_context(ray_cluster(config.ray_address))
        except StartError as error:
            tell("failed", reason=str(error))
            return 2
        tell("up", home=cluster.home.directory, processes=cluster.processes, job=cluster.job)
        watching = asyncio.create_task(watch(cluster, lambda reason: tell("lost", reason=reason)))
        placer = Placer(cluster, config)

        async def place() -> Placement | None:
            placement = await placer.place(model, options)
            tell("placed")
            placement.channels.subscribe(lambda: tell("changed", **_view(placement)))
            try:
                await placement.ready()
            except StartError as error:
                tell("refused", reason=str(error), notes=getattr(error, "__notes__", []))
                await placement.remove()
                return None
            tell("ready", **_view(placement))
            return placement

        placement = await place()
        load = Load(model)
        while not watching.done() and (command := (await reader.readline()).decode().strip()):
            if command == "place":
                placement = await place()
            elif placement is not None and command == "remove":
                await placement.remove()
                tell("removed")
            elif placement is not None and command.startswith("load "):
                tell("load", **await load.keep(placement.channels, int(command.split()[1])))
            elif placement is not None and command == "look":
                tell("seen", **_view(placement))
            elif placement is not None:
                tell("answer", **await _infer(model, placement))
        watching.cancel()
    tell("down")
    return 1 if cluster.lost else 0


class Load:
    """Jobs of the largest batch, so and so many at a time.

    Args:
        model: That computes them.
    """

    def __init__(self, model: ServedModel) -> None:
        inputs = {spec.name: [zeros(spec, model.max_batch_size)] for spec in model.inputs}
        outputs = [spec.name for spec in model.outputs]
        self._job = Job(inputs, model.max_batch_size, outputs, 60.0)
        self._workers: list[asyncio.Task[None]] = []
        self._wanted = self._answered = self._lost = 0

    async def keep(self, channels: Channels, number: int) -> dict[str, object]:
        """Keeps another number of jobs in flight; returns how many have ended, and how."""
        self._wanted = number
        if number == 0:
            await asyncio.gather(*self._workers)
        self._workers = [worker for worker in self._workers if not worker.done()]
        for index in range(len(self._workers), number):
            self._workers.append(asyncio.create_task(self._work(channels, index)))
        return {"answered": self._answered, "lost": self._lost}

    async def _work(self, channels: Channels, index: int) -> None:
        from serving.testing.local_replica import run

        while index < self._wanted:
            channel = min(channels.connected, key=lambda channel: channel.in_flight)
            try:
                await run(channel, self._job)  # type: ignore[arg-type]
                self._answered += 1
            except ReplicaLostError:
                self._lost += 1
            # The last one of all is a trickle, which keeps no replica busy.
            await asyncio.sleep(0.02 if self._wanted == 1 else 0)


def _view(placement: Any) -> dict[str, object]:
    channels = placement.channels
    return {
        "pids": {channel.name: channel.pid for channel in channels.connected},
        "addresses": [channel.address for channel in channels.connected],
        "why_empty": "" if channels.connected else channels.why_empty(),
    }


async def _infer(model: ServedModel, placement: Any) -> dict[str, object]:
    """Asks every replica about a batch of zeros."""
    from serving.testing.local_replica import run

    inputs = {spec.name: [zeros(spec)] for spec in model.inputs}
    job = Job(inputs, 1, [spec.name for spec in model.outputs], 60.0)
    answers = {}
    for channel in placement.channels.connected:
        computed = await run(channel, job)
        answers[channel.name] = {n: array.tolist() for n, array in computed.outputs.items()}
    return {"answers": answers}


def main() -> None:
    """The program."""
    directory, ray_config, model_options = sys.argv[1:]
    config = RayConfig.model_validate_json(ray_config)
    options = ModelOptions.model_validate_json(model_options)
    isolate(os.environ, config.ray_address)
    descriptor = Access().at(Path(directory)).descriptor
    model = served_model(descriptor, max_batch_size=options.max_batch_size)
    sys.exit(asyncio.run(serve(model, config, options)))


if __name__ == "__main__":
    main()
