"""The life of a gateway: listen, start the replicas, answer, drain, stop."""

import asyncio
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, redirect_stdout

from base.interrupts import asked_to_end
from serving.config import GatewayConfig
from serving.errors import StartError
from serving.model import ServedModel
from serving.server import GatewayServer
from serving.service import InferenceService, Predict
from serving.signature import zeros


async def serve_until_signal(config: GatewayConfig, model: ServedModel) -> None:
    """Serves until SIGINT, SIGTERM or SIGHUP, then drains; further ones do not cut it short.

    Raises:
        StartError: the address cannot be listened on, or a replica could not start.
    """
    stop = asyncio.Event()
    for number in asked_to_end():
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ready = sys.stdout
    try:
        # What Ray has to say must not come before, or into, the line that others wait for.
        with redirect_stdout(sys.stderr):
            async with gateway(config, model, stop) as address:
                if not stop.is_set():
                    print(
                        f"serving {model.name} {model.version} at {address}", file=ready, flush=True
                    )
                await stop.wait()
    except StartError:
        # Told to stop in the midst of starting: then nothing is deployed, if Ray started at all.
        if not stop.is_set():
            raise


@asynccontextmanager
async def gateway(
    config: GatewayConfig, model: ServedModel, stop: asyncio.Event
) -> AsyncIterator[str]:
    """Serves a model while the context is open, and yields the address once it is ready.

    Raises:
        StartError: as above, or `stop` was set meanwhile; nothing is left running.
    """
    service = InferenceService(
        model, max_batch_size=config.max_batch_size, timeout_s=config.timeout_s
    )
    server = GatewayServer(service, config.max_message_bytes)
    address = await server.start(config.host, config.port)
    try:
        async with _replicas(config, model, stop) as predict:
            await _prove(predict, model, config.timeout_s)
            await server.open(predict)
            try:
                yield address
            finally:
                await server.drain(config.drain_s)
    finally:
        await server.drain(grace_s=0)


async def _prove(predict: Predict, model: ServedModel, timeout_s: float) -> None:
    """Sends one request the whole way, which also opens the connections for the next ones."""
    try:
        async with asyncio.timeout(timeout_s):
            await predict(zeros(model.input))
    except Exception as error:
        raise StartError(f"the model did not answer a first request: {error!r}") from error


@asynccontextmanager
async def _replicas(
    config: GatewayConfig, model: ServedModel, stop: asyncio.Event
) -> AsyncIterator[Predict]:
    """Runs the model's replicas in a Ray of their own, and yields the function that calls them."""
    cluster = ExitStack()

    def go_on() -> None:
        if stop.is_set():
            raise StartError("told to stop")

    def start() -> None:
        go_on()
        # Importing Ray takes seconds; a port that is taken was refused before.
        from serving.cluster import local_cluster
        from serving.deployment import deploy

        go_on()
        cluster.enter_context(local_cluster(num_cpus=config.replicas))
        go_on()
        deploy(config, model, go_on)

    loop = asyncio.get_running_loop()
    # Ray blocks, so it has a thread of its own; cluster.py says why it must be one and the same.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ray") as ray_thread:
        try:
            await loop.run_in_executor(ray_thread, start)
            from serving.deployment import connected

            async with connected() as predict:
                yield predict
        finally:
            await loop.run_in_executor(ray_thread, cluster.close)
