"""What is kept, what it costs, and who waits for what."""

import asyncio
import functools
import gc
import tracemalloc
import weakref
from collections.abc import Callable
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.core.cache import CacheConfig, ResponseCache, cache_key
from serving.core.request import Arrays, Inputs


def request(**changes: object) -> Inputs:
    inputs = Inputs({"x": np.arange(12, dtype=np.float32).reshape(3, 4)}, ("p", "q"))
    return replace(inputs, **changes)  # type: ignore[arg-type]


def key_of(inputs: Inputs) -> bytes:
    return cache_key("digits", "1.0.0", "d1", inputs)


def test_the_same_request_has_the_same_key_however_it_lies_in_memory() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    y = np.zeros((3, 1), np.int64)
    key = key_of(request(arrays={"x": x, "y": y}))
    assert len(key) == 32
    assert key_of(request(arrays={"y": y.copy(), "x": np.asfortranarray(x)})) == key
    assert key_of(request(arrays={"x": np.repeat(x, 2, axis=0)[::2], "y": y})) == key


def test_whatever_changes_the_answer_changes_the_key() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    changed = x.copy()
    changed[2, 3] += 1
    others = [
        cache_key("digit", "s1.0.0", "d1", request()),
        cache_key("digits", "1.0.1", "d1", request()),
        cache_key("digits", "1.0.0", "d2", request()),
        cache_key("digits', '1.0.0", "", "d1", request()),
        key_of(request(outputs=("p",))),
        key_of(request(outputs=("q", "p"))),
        key_of(request(parameters=(("classification", "2"),))),
        key_of(request(parameters=(("classification", "3"),))),
        key_of(request(arrays={"x": changed})),
        key_of(request(arrays={"y": x})),
        key_of(request(arrays={"x": x.reshape(4, 3)})),
        key_of(request(arrays={"x": x.view(np.int32)})),
        key_of(request(arrays={"x": x, "y": np.zeros((3, 0), np.float32)})),
        # Types of two bytes that numpy cannot tell apart by their code.
        key_of(request(arrays={"x": np.zeros((3, 4), ml_dtypes.bfloat16)})),
        key_of(request(arrays={"x": np.zeros((3, 4), np.float16)})),
        # Texts, of which two read the same when they are joined.
        key_of(request(arrays={"x": np.array([[b"ab", b"c"]], object)})),
        key_of(request(arrays={"x": np.array([[b"ab", b"d"]], object)})),
        key_of(request(arrays={"x": np.array([[b"a", b"bc"]], object)})),
    ]
    keys = [key_of(request()), *others]
    assert len(set(keys)) == len(keys)


class Clock:
    """Seconds, as many as a test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def cache(max_bytes: int = 2**20, ttl_s: float = 10.0, clock: Clock | None = None) -> ResponseCache:
    return ResponseCache(CacheConfig(max_bytes=max_bytes, ttl_s=ttl_s), clock=clock or Clock())


def answer(value: float = 1.0, size: int = 1) -> dict[str, np.ndarray]:
    return {"p": np.full(size, value, np.float64)}


async def known(target: ResponseCache, key: bytes, given: Arrays | None = None) -> bool:
    """Asks for a key, computes `given` if need be, and returns whether it was known."""

    async def compute() -> Arrays:
        return answer() if given is None else given

    return (await target.get_or_compute(key, compute))[1]


def test_an_answer_is_known_until_its_time_is_over() -> None:
    async def run() -> None:
        clock = Clock()
        target = cache(ttl_s=10.0, clock=clock)
        assert not await known(target, b"a")
        clock.now = 9.9
        assert await known(target, b"a")
        clock.now = 10.0
        assert not await known(target, b"a")
        clock.now = 19.9
        assert await known(target, b"a")
        assert (target.hits, target.misses, target.evictions, len(target)) == (2, 2, 0, 1)

    asyncio.run(run())


def test_nothing_that_was_handed_out_can_be_written_to() -> None:
    async def run() -> None:
        target = cache(max_bytes=10_000)
        for size in (1, 10_000):  # the latter is not kept
            computed = answer(1.0, size)

            async def compute(computed: Arrays = computed) -> Arrays:
                return computed

            found, _ = await target.get_or_compute(b"a%d" % size, compute)
            with pytest.raises(ValueError, match="read-only"):
                found["p"][0] = 2.0
            with pytest.raises(TypeError):
                found["q"] = found["p"]  # type: ignore[index]
        computed = answer(1.0)
        assert not await known(target, b"b", computed)
        computed["p"][0] = 2.0  # whoever computed it may do with it what it likes
        assert await known(target, b"b")
        found, _ = await target.get_or_compute(b"b", compute)
        assert found["p"][0] == 1.0

    asyncio.run(run())


def test_a_part_of_a_batch_does_not_keep_the_batch() -> None:
    class Array(np.ndarray):
        """One that can be referred to weakly."""

    async def run() -> None:
        target = cache()
        batch = np.zeros((64, 1000)).view(Array)
        batch.flags.writeable = False  # as what replicas answer
        gone = weakref.ref(batch)
        await known(target, b"a", {"p": np.asarray(batch[3:4])})
        del batch
        gc.collect()
        assert gone() is None
        assert len(target) == 1

    asyncio.run(run())


def test_one_that_is_larger_than_all_is_handed_out_and_not_kept() -> None:
    async def run() -> None:
        target = cache(max_bytes=10_000)
        assert not await known(target, b"a")
        assert not await known(target, b"b", answer(size=1250))
        assert not await known(target, b"b")
        assert await known(target, b"a")
        assert target.evictions == 0

    asyncio.run(run())


class LeastRecentlyUsed:
    """The oracle: a list in order of use."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.evictions = 0
        self.used: list[tuple[bytes, int]] = []

    def ask(self, key: bytes, size_bytes: int) -> bool:
        for entry in self.used:
            if entry[0] == key:
                self.used.remove(entry)
                self.used.append(entry)
                return True
        if size_bytes <= self.max_bytes:
            self.used.append((key, size_bytes))
        while sum(size for _, size in self.used) > self.max_bytes:
            self.used.pop(0)
            self.evictions += 1
        return False


SIZES = (1, 300, 900, 2000)


@functools.cache
def costs() -> dict[int, int]:
    """What the cache counts for an answer of each size; another test says whether that is right."""

    async def run() -> dict[int, int]:
        counted = {}
        for size in SIZES:
            target = cache(max_bytes=2**30)
            await known(target, b"a", answer(size=size))
            counted[size] = target.bytes
        return counted

    return asyncio.run(run())


def test_the_budget_is_used_to_the_last_byte() -> None:
    cost_of = costs()

    async def run() -> None:
        for max_bytes, expected in ((cost_of[900], True), (cost_of[900] - 1, False)):
            target = cache(max_bytes=max_bytes)
            await known(target, b"a", answer(size=900))
            assert await known(target, b"a", answer(size=900)) == expected
        target = cache(max_bytes=cost_of[300] + cost_of[900])
        await known(target, b"a", answer(size=300))
        await known(target, b"b", answer(size=900))
        assert (len(target), target.evictions) == (2, 0)

    asyncio.run(run())


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(SIZES)), max_size=60))
def test_the_least_recently_used_make_room(asked: list[tuple[int, int]]) -> None:
    cost_of = costs()

    async def run() -> None:
        target, oracle = cache(max_bytes=15_000), LeastRecentlyUsed(15_000)
        for number, size in asked:
            key = bytes([number])
            expected = oracle.ask(key, cost_of[size])
            assert await known(target, key, answer(size=size)) == expected
            assert target.bytes == sum(size for _, size in oracle.used) <= 15_000
            assert (len(target), target.evictions) == (len(oracle.used), oracle.evictions)

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["one", "ten arrays", "texts"])
def test_what_it_counts_is_no_less_than_what_it_takes(
    kind: str, record_property: Callable[[str, object], None]
) -> None:
    def computed(number: int) -> dict[str, np.ndarray]:
        if kind == "texts":
            return {"p": np.array([b"text %d of %d" % (i, number) for i in range(20)], object)}
        return {f"p{i}": np.full(5, number, np.float32) for i in range(10 if "ten" in kind else 1)}

    async def run() -> None:
        target = cache(max_bytes=2**30)
        await known(target, b"first", computed(0))
        gc.collect()
        tracemalloc.start()
        counted = target.bytes
        try:
            before = tracemalloc.get_traced_memory()[0]
            for number in range(1000):
                await known(target, number.to_bytes(32, "little"), computed(number))
            gc.collect()
            taken = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        counted = target.bytes - counted
        record_property("taken", taken // 1000)
        record_property("counted", counted // 1000)
        assert taken <= counted <= 2 * taken

    asyncio.run(run())
