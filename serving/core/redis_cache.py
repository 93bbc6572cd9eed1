"""Answers that several gateways share through Redis: a help when it is there, never a hindrance."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Self

import redis.asyncio
import redis.asyncio.retry
import redis.backoff

from serving.core.cache import Expected
from serving.core.cache_format import MAGIC, ForeignValueError, decode, encode
from serving.core.redis_config import RedisConfig, password_of
from serving.core.request import Arrays
from serving.policies.breaker import BreakerConfig, CircuitBreaker

# Under way at once; with more, Redis is busy, and to compute is faster than to wait.
_MAX_TASKS = 128
_MAX_CONNECTIONS = 16
# Nobody waits that long: it ends commands to a Redis that does not answer any more.
_SOCKET_TIMEOUT_S = 2.0

# One probe, for a probe costs a request the whole timeout.
_BREAKER = BreakerConfig(
    max_consecutive_failures=5, min_computations=50, probes=1, open_s=1.0, max_open_s=30.0
)


class RedisCache:
    """The second level of a `ResponseCache`, in a Redis.

    Whatever goes wrong with Redis is a miss: no request fails for it, and none waits longer for it
    than the timeout. A Redis that is gone or slow is left alone by a breaker, and costs nothing.
    What is read is checked: it must have been stored for the same key and fit the model's
    signature. Used from one event loop.

    Attributes:
        hits: answers that were there.
        misses: that were not.
        failures: commands that failed or took too long.
        foreign: values that were there and no answer to the request.
        skipped: commands that were not sent, as the breaker is open or too many are under way.
        breaker: its state is a metric.

    Args:
        config: with a URL.
        ttl_s: how long answers are kept.
        on_failure: is called with a line for a log whenever the breaker opens.
        clock: for the breaker, seconds.
    """

    def __init__(
        self,
        config: RedisConfig,
        ttl_s: float,
        on_failure: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if config.url is None:
            raise ValueError("a shared cache needs a url")
        self.hits = self.misses = self.failures = self.foreign = self.skipped = 0
        self.breaker = CircuitBreaker(_BREAKER)
        self._config = config
        self._ttl_s = ttl_s
        self._on_failure = on_failure
        self._clock = clock
        self._prefix = f"{config.prefix}:{MAGIC.decode()}:"
        self._tasks: set[asyncio.Task[Any]] = set()
        self._client = _client(config)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def flush(self) -> None:
        """Returns once what was put is stored or given up, which takes two seconds at most."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Ends what is under way, and all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    async def get(self, key: bytes, expected: Expected) -> tuple[Arrays, float] | None:
        """See `SecondLevel`."""
        # One byte more than is accepted tells what is too large, without reading all of it.
        limit = self._config.max_value_bytes
        command = self._begin(lambda: self._client.getrange(self._name(key), 0, limit))
        if command is None:
            return None
        value = await self._reply(command, self.breaker.epoch)
        if not value:
            self.misses += 1
            return None
        try:
            if len(value) > limit:
                raise ForeignValueError(f"it has more than {limit} bytes")
            answer, expires = decode(key, value, expected)
        except ForeignValueError:
            self.foreign += 1
            return None
        ttl_s = expires - time.time()
        if ttl_s <= 0:
            self.misses += 1
            return None
        self.hits += 1
        return answer, min(ttl_s, self._ttl_s)

    def put(self, key: bytes, answer: Arrays) -> None:
        """See `SecondLevel`."""
        if sum(array.nbytes for array in answer.values()) > self._config.max_value_bytes:
            return
        value = encode(key, answer, time.time() + self._ttl_s)
        if value is None or len(value) > self._config.max_value_bytes:
            return
        ttl_ms = max(1, round(self._ttl_s * 1000))
        command = self._begin(lambda: self._client.set(self._name(key), value, px=ttl_ms))
        if command is not None:
            self._track(asyncio.create_task(self._reply(command, self.breaker.epoch)))

    def _name(self, key: bytes) -> str:
        return self._prefix + key.hex()

    def _begin(self, send: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any] | None:
        """Sends a command, unless that is known to be of no use."""
        if len(self._tasks) >= _MAX_TASKS or self.breaker.allow(self._clock()) is not None:
            self.skipped += 1
            return None
        return self._track(asyncio.create_task(send()))

    def _track(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, for a late one has nobody else to do so

    async def _reply(self, command: asyncio.Task[Any], epoch: int) -> Any:
        """What Redis replies, or None if it does not in time, or with an error.

        The command itself is not cancelled, neither when it takes too long nor when the caller goes
        away: that would cost a connection each time, and what is slow would become slower.
        """
        started = self._clock()
        try:
            await asyncio.wait({command}, timeout=self._config.timeout_s)
        except asyncio.CancelledError:
            self.breaker.cancelled(epoch)
            raise
        now = self._clock()
        error = f"no reply within {self._config.timeout_s:g} s"
        if command.done():
            failure = None if command.cancelled() else command.exception()
            error = "" if failure is None else f"{type(failure).__name__}: {failure}"
        self._record(now, error, now - started, epoch)
        return command.result() if command.done() and not error else None

    def _record(self, now: float, error: str, duration_s: float, epoch: int) -> None:
        openings = self.breaker.openings
        self.breaker.record(now, not error, duration_s, epoch)
        if error:
            self.failures += 1
        if self.breaker.openings > openings:
            self._on_failure(f"left alone after {self.breaker.reason}, at last: {error}")


def _client(config: RedisConfig) -> redis.asyncio.Redis:
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        config.url,
        password=password_of(config),
        max_connections=_MAX_CONNECTIONS,
        timeout=_SOCKET_TIMEOUT_S,
        socket_timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=_SOCKET_TIMEOUT_S,
        retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0),
        driver_info=None,
        protocol=2,
    )
    return redis.asyncio.Redis.from_pool(pool)
