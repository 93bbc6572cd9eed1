"""A shared cache that is there, gone, slow, or full of nonsense: answers come all the same."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import redis

from serving.core.cache import CacheConfig, Expected, ResponseCache
from serving.core.cache_format import encode
from serving.core.redis_cache import RedisCache
from serving.core.redis_config import RedisConfig
from serving.core.request import Arrays
from serving.core.signature import TensorSpec
from serving.policies.breaker import State
from serving.testing.redis_process import RedisProcess, running_redis

TTL_S = 100.0
KEY, OTHER = bytes(range(32)), bytes(32)
EXPECTED = Expected((TensorSpec("p", "FP32", (-1, 2)),), 1)

# Never reached where Redis answers: nothing here fails because the machine is slow.
PATIENT_S = 10.0


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    with running_redis() as process:
        yield process


@pytest.fixture(autouse=True)
def _empty(server: RedisProcess) -> None:
    store(server).flushall()


def store(server: RedisProcess) -> redis.Redis:
    """Another client, that sees what is really there."""
    return redis.Redis.from_url(server.url)


class Clock:
    """Seconds, as many as a test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def shared(server: RedisProcess, clock: Clock | None = None, **config: object) -> RedisCache:
    values = {"url": server.url, "timeout_s": PATIENT_S, **config}
    return RedisCache(RedisConfig.model_validate(values), TTL_S, clock=clock or Clock())


def gateway(second: RedisCache) -> ResponseCache:
    """As a process that has just started: it knows nothing."""
    return ResponseCache(CacheConfig(ttl_s=TTL_S), second)


def answer(value: float) -> dict[str, np.ndarray]:
    return {"p": np.full((1, 2), value, np.float32)}


def computing(value: float) -> Callable[[], Awaitable[Arrays]]:
    async def compute() -> Arrays:
        return answer(value)

    return compute


async def ask(
    second: RedisCache, value: float, key: bytes = KEY, *, flush: bool = True
) -> tuple[float, bool]:
    """Asks a new gateway, which computes `value` if nobody has; what it answers, and if known."""
    found, known = await gateway(second).get_or_compute(key, computing(value), EXPECTED)
    if flush:
        await second.flush()
    return float(found["p"][0, 0]), known


def stored_name(server: RedisProcess) -> bytes:
    (name,) = store(server).keys()
    return name


def test_what_one_gateway_computes_the_others_know(server: RedisProcess) -> None:
    async def run() -> None:
        async with shared(server) as one, shared(server) as other:
            assert await ask(one, 1.0) == (1.0, False)
            assert await ask(other, 2.0) == (1.0, True)
            assert await ask(other, 3.0, OTHER) == (3.0, False)
            assert (one.misses, other.hits, other.misses) == (1, 1, 1)
            assert one.failures == other.failures == 0

    asyncio.run(run())


def test_what_is_stored_ends_by_itself(server: RedisProcess) -> None:
    async def run() -> None:
        async with shared(server) as one:
            await ask(one, 1.0)
        left_ms = store(server).pttl(stored_name(server))
        assert 0 < left_ms <= TTL_S * 1000  # type: ignore[operator]

    asyncio.run(run())


def test_a_value_whose_time_is_over_is_not_known(server: RedisProcess) -> None:
    async def run() -> None:
        async with shared(server) as one:
            await ask(one, 1.0)
            value = encode(KEY, answer(1.0), expires=1.0)  # in 1970
            store(server).set(stored_name(server), value)  # type: ignore[arg-type]
            assert await ask(one, 2.0) == (2.0, False)

    asyncio.run(run())


def test_a_prefix_keeps_users_apart(server: RedisProcess) -> None:
    async def run() -> None:
        async with shared(server, prefix="a") as one, shared(server, prefix="b") as other:
            await ask(one, 1.0)
            assert stored_name(server).startswith(b"a:")
            assert await ask(other, 2.0) == (2.0, False)

    asyncio.run(run())


@pytest.mark.parametrize(
    "value",
    [
        b"nonsense",
        encode(OTHER, answer(9.0), 4e9),
        encode(KEY, {"p": np.zeros((1, 3), np.float32)}, 4e9),
        encode(KEY, {"p": np.zeros((1, 2), np.float64)}, 4e9),
        encode(KEY, {"q": np.zeros((1, 2), np.float32)}, 4e9),
        b"\x80\x04\x95 a pickle",
        b"x" * 2**21,
    ],
    ids=["nonsense", "key", "shape", "datatype", "name", "pickle", "size"],
)
def test_a_value_that_is_no_answer_to_this_request_is_not_known(
    server: RedisProcess, value: bytes
) -> None:
    async def run() -> None:
        async with shared(server) as one:
            await ask(one, 1.0)
            name = stored_name(server)
            store(server).set(name, value)
            assert await ask(one, 2.0) == (2.0, False)
            assert one.foreign == 1
            # It has been replaced by a right one.
            assert await ask(one, 3.0) == (2.0, True)

    asyncio.run(run())


def test_a_value_of_another_type_is_not_known(server: RedisProcess) -> None:
    async def run() -> None:
        async with shared(server) as one:
            await ask(one, 1.0)
            name = stored_name(server)
            store(server).delete(name)
            store(server).rpush(name, b"a list")
            assert await ask(one, 2.0) == (2.0, False)

    asyncio.run(run())


def test_an_answer_that_is_too_large_is_not_shared(server: RedisProcess) -> None:
    async def run() -> None:
        async with shared(server, max_value_bytes=60) as one:
            assert await ask(one, 1.0) == (1.0, False)
            assert store(server).keys() == []
            assert one.failures == 0

    asyncio.run(run())


def test_a_server_that_is_gone_costs_no_request_and_is_found_again(server: RedisProcess) -> None:
    async def run() -> None:
        lines: list[str] = []
        clock = Clock()
        config = RedisConfig(url=server.url, timeout_s=PATIENT_S)
        async with RedisCache(config, TTL_S, lines.append, clock) as one:
            await ask(one, 1.0)
            server.stop()
            try:
                for value in range(20):
                    assert await ask(one, value) == (value, False)
            finally:
                server.start()
            # After a few failures it was not asked any more, and a log says so once.
            assert one.breaker.state is State.OPEN
            assert one.failures == 5
            assert one.skipped > 0
            (line,) = lines
            assert line.startswith("left alone after 5 failures in a row, at last: ConnectionError")
            clock.now = 2.0
            assert await ask(one, 1.0) == (1.0, False)
            assert one.breaker.state is State.CLOSED
            assert await ask(one, 2.0) == (1.0, True)

    asyncio.run(run())


def test_a_server_that_never_answers_costs_no_request(server: RedisProcess) -> None:
    async def run() -> None:
        clock = Clock()
        async with shared(server, clock, timeout_s=0.001) as one:
            server.freeze()
            try:
                for value in range(20):
                    key = bytes([value] * 32)
                    assert await ask(one, value, key, flush=False) == (value, False)
            finally:
                server.thaw()
            assert one.breaker.state is State.OPEN
            assert one.skipped > 0
            assert one.hits == 0

    asyncio.run(run())


def test_late_replies_are_never_taken_for_others(server: RedisProcess) -> None:
    async def run() -> None:
        async with shared(server) as one:
            for number in range(8):
                await ask(one, number, bytes([number] * 32))
        async with shared(server, timeout_s=0.001) as one:
            server.freeze()
            try:
                asked = [one.get(bytes([number] * 32), EXPECTED) for number in range(4)]
                assert await asyncio.gather(*asked) == [None] * 4
            finally:
                server.thaw()
            # The same connections, that have replies to come.
            one._config = one._config.model_copy(update={"timeout_s": PATIENT_S})
            for number in range(4, 8):
                found = await one.get(bytes([number] * 32), EXPECTED)
                assert found is not None
                assert found[0]["p"][0, 0] == number
            assert one.foreign == 0

    asyncio.run(run())


def test_a_caller_that_goes_away_leaves_the_connection_in_order(server: RedisProcess) -> None:
    async def run() -> None:
        async with shared(server) as one:
            await ask(one, 1.0)
            for turns in range(6):
                caller = asyncio.create_task(one.get(KEY, EXPECTED))
                for _ in range(turns):
                    await asyncio.sleep(0)
                caller.cancel()
                await asyncio.gather(caller, return_exceptions=True)
            assert await ask(one, 2.0) == (1.0, True)
            assert one.failures == 0
            assert one.breaker.state is State.CLOSED
            assert len(one._client.connection_pool._in_use_connections) == 0

    asyncio.run(run())


def test_many_at_once_are_bounded(server: RedisProcess) -> None:
    async def run() -> None:
        async with shared(server) as one:
            await ask(one, 1.0)
            found = await asyncio.gather(*(one.get(KEY, EXPECTED) for _ in range(1000)))
            assert any(found)
            assert one.skipped > 0
            assert one.failures == 0
            assert store(server).info("clients")["connected_clients"] < 30  # type: ignore[index]

    asyncio.run(run())


def test_a_password_is_read_from_a_file(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("open sesame\n")
    wrong.write_text("open barley\n")

    async def run(server: RedisProcess) -> None:
        async with shared(server, password_file=str(right)) as one:
            await ask(one, 1.0)
            assert await ask(one, 2.0) == (1.0, True)
        async with shared(server, password_file=str(wrong)) as one:
            assert await ask(one, 3.0) == (3.0, False)
            assert one.failures > 0

    with running_redis(requirepass="open sesame") as server:
        asyncio.run(run(server))
