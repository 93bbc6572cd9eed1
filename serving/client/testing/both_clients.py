"""Both clients behind the same blocking methods, so that one test asks both."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from serving.client.aio import AsyncInferenceClient
from serving.client.sync import InferenceClient

WAIT_S = 60.0  # far more than anything takes

# Makes a client of an address, with the options of its class.
Connect = Callable[..., Any]


class FakeTime:
    """A clock that advances only while somebody waits.

    Attributes:
        waits_s: how long the client has waited, each time.
        oversleep_s: by how much a wait is longer than was asked for.
    """

    def __init__(self) -> None:
        self.waits_s: list[float] = []
        self.oversleep_s = 0.0
        self._now = 1000.0

    def now(self) -> float:
        """Seconds."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Waits, without taking time."""
        self.waits_s.append(seconds)
        self._now += seconds + self.oversleep_s

    async def sleep_async(self, seconds: float) -> None:
        """Waits, without taking time."""
        self.sleep(seconds)


class _Blocking:
    """An AsyncInferenceClient whose coroutines run to their end in an event loop's thread."""

    def __init__(self, client: AsyncInferenceClient, run: Callable[[Any], Any]) -> None:
        self._client = client
        self._run = run

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._client, name)
        assert inspect.iscoroutinefunction(function), name
        return lambda *arguments, **options: self._run(function(*arguments, **options))


@contextmanager
def sync_client(address: str, time: FakeTime | None = None, **options: Any) -> Iterator[Any]:
    """An InferenceClient, with a clock of its own if one is given."""
    if time is not None:
        options |= {"now": time.now, "sleep": time.sleep}
    with InferenceClient(address, **options) as client:
        yield client


@contextmanager
def aio_client(address: str, time: FakeTime | None = None, **options: Any) -> Iterator[Any]:
    """An AsyncInferenceClient with blocking methods."""
    if time is not None:
        options |= {"now": time.now, "sleep": time.sleep_async}
    client = AsyncInferenceClient(address, **options)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(WAIT_S)

    try:
        yield _Blocking(client, run)
    finally:
        run(client.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        loop.close()


CLIENTS = [sync_client, aio_client]
