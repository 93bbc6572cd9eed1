"""Answers that are known already, and computations that several callers wait for."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
from blake3 import blake3
from pydantic import Field

from base.config import Section
from serving.core.errors import Kind, ServingError
from serving.core.request import Arrays, Inputs
from serving.core.signature import TensorSpec

# What Python needs besides the values, in bytes: for an entry its key, its record, the mapping and
# the nodes of the dictionary that holds it; for an array its header; and for an element of an array
# of objects the header of a `bytes`. cache_test.py measures that they are enough.
_ENTRY_BYTES = 600
_ARRAY_BYTES = 250
_ELEMENT_BYTES = 48

# How the first caller's own request may end, which says nothing of those who wait with it.
_OF_ONE_CALLER = (Kind.DEADLINE, Kind.CANCELLED)


class CacheConfig(Section):
    """Which answers are kept, and for how long."""

    enabled: bool = Field(
        default=False,
        description="Whether answers are kept; only for models that always answer the same",
    )
    max_bytes: int = Field(
        default=64 * 2**20,
        ge=1024,
        le=2**50,
        description="Memory of all answers that are kept, in bytes, their keys included",
    )
    ttl_s: float = Field(
        default=300.0, gt=0, le=31_536_000, description="How long an answer is kept, seconds"
    )


class Expected(NamedTuple):
    """What the answer must look like, which a value from outside this process is checked against.

    Attributes:
        outputs: of the model's signature those that are wanted, in the order of the answer.
        batch_size: number of examples.
    """

    outputs: tuple[TensorSpec, ...]
    batch_size: int


class SecondLevel(Protocol):
    """Where answers are that other processes have computed. It never fails and is never slow."""

    async def get(self, key: bytes, expected: Expected) -> tuple[Arrays, float] | None:
        """An answer and for how many seconds it is good; None if it is not known, or not soon."""

    def put(self, key: bytes, answer: Arrays) -> None:
        """Has an answer stored, without waiting for it."""


class _Entry(NamedTuple):
    answer: Arrays
    size_bytes: int
    expires: float


class _Flight:
    """A computation, and how many wait for it."""

    __slots__ = ("task", "waiting")

    def __init__(self) -> None:
        self.task: asyncio.Task[tuple[Arrays, bool]] | None = None
        self.waiting = 0


def cache_key(name: str, version: str, digest: str, inputs: Inputs) -> bytes:
    """Everything that an answer depends on, as 32 bytes, the same in every process.

    Args:
        name: of the model.
        version: the resolved one.
        digest: of the model's artifact.
        inputs: datatypes, shapes and bytes of the tensors, which outputs are wanted, and parameters
            that change the answer.
    """
    arrays = sorted(inputs.arrays.items())
    tensors = [(n, array.dtype.str, array.dtype.name, array.shape) for n, array in arrays]
    # A `repr` quotes and escapes texts, so that no two different heads read the same.
    head = repr((name, version, digest, inputs.outputs, inputs.parameters, tensors)).encode()
    # In 1.2 ms for 10 MiB, BLAKE2b takes 7.7 and SHA-256 5.3 (AMD EPYC, 2026-11-29); with threads
    # of its own it would take other requests' cores.
    content = blake3(len(head).to_bytes(8, "little") + head, max_threads=1)
    for _, array in arrays:
        if array.dtype.hasobject:
            for element in array.ravel():
                content.update(len(element).to_bytes(8, "little"))
                content.update(element)
        else:
            # As bytes, since numpy hands out no buffer of types that it does not know (bfloat16).
            content.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return content.digest()


class ResponseCache:
    """Keeps the answers that were used last, in bounded memory and for a bounded time.

    Of one key there is one computation at a time, and all who ask meanwhile wait for it. It belongs
    to none of them: it goes on if one is cancelled, the first included, and is cancelled when the
    last one is gone. An error reaches all who wait and is not kept. Used from one event loop.

    Attributes:
        hits: answers that were known.
        misses: computations that were begun.
        shared: callers that waited for the computation of another.
        second_hits: of the misses, those that the second level answered.
        evictions: answers that went to make room.
        bytes: memory of what is kept.
    """

    def __init__(
        self,
        config: CacheConfig,
        second: SecondLevel | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.hits = 0
        self.misses = 0
        self.shared = 0
        self.second_hits = 0
        self.evictions = 0
        self.bytes = 0
        self._max_bytes = config.max_bytes
        self._ttl_s = config.ttl_s
        self._second = second
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()  # the least recently used first
        self._flights: dict[bytes, _Flight] = {}

    def __len__(self) -> int:
        return len(self._entries)

    async def get_or_compute(
        self,
        key: bytes,
        compute: Callable[[], Awaitable[Arrays]],
        expected: Expected | None = None,
    ) -> tuple[Arrays, bool]:
        """The answer for a key, computed if it is not known.

        Args:
            key: of `cache_key`.
            compute: called in a task of its own, if there is need.
            expected: what the answer must look like; without it the second level is not asked.

        Returns:
            The answer, whose arrays are read-only; and whether it took no computation of this
            caller's own.

        Raises:
            Whatever `compute` raises. A deadline or a cancellation of another caller's request is
            no reason: then it is computed anew.
        """
        while True:
            entry = self._entries.get(key)
            if entry is not None:
                if self._clock() < entry.expires:
                    self.hits += 1
                    self._entries.move_to_end(key)
                    return entry.answer, True
                self._drop(key)
            flight = self._flights.get(key)
            if flight is None:
                self.misses += 1
                return await self._wait(key, self._start(key, compute, expected))
            self.shared += 1
            try:
                return (await self._wait(key, flight))[0], True
            except ServingError as error:
                if error.kind not in _OF_ONE_CALLER:
                    raise

    def _start(
        self, key: bytes, compute: Callable[[], Awaitable[Arrays]], expected: Expected | None
    ) -> _Flight:
        flight = self._flights[key] = _Flight()
        flight.task = asyncio.create_task(self._fly(key, flight, compute, expected))
        return flight

    async def _fly(
        self,
        key: bytes,
        flight: _Flight,
        compute: Callable[[], Awaitable[Arrays]],
        expected: Expected | None,
    ) -> tuple[Arrays, bool]:
        try:
            found = None
            if self._second is not None and expected is not None:
                found = await self._second.get(key, expected)
            answer, ttl_s = found or (await compute(), self._ttl_s)
        except asyncio.CancelledError:
            # Not by those who wait: they must not take it for a cancellation of their own.
            if flight.waiting:
                raise ServingError(Kind.CANCELLED, "the computation was cancelled") from None
            raise
        finally:
            self._land(key, flight)
        answer = self._keep(key, answer, min(ttl_s, self._ttl_s))
        if found is not None:
            self.second_hits += 1
        elif self._second is not None:
            self._second.put(key, answer)
        return answer, found is not None

    async def _wait(self, key: bytes, flight: _Flight) -> tuple[Arrays, bool]:
        assert flight.task is not None
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                # Nobody joins what is being cancelled: the next one begins anew.
                self._land(key, flight)
                flight.task.add_done_callback(_look_at)
                flight.task.cancel()

    def _land(self, key: bytes, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _keep(self, key: bytes, answer: Arrays, ttl_s: float) -> Arrays:
        """Keeps an answer if there can be room; returns it with arrays that are read-only."""
        size_bytes = _size_bytes(answer)
        if size_bytes > self._max_bytes:
            return MappingProxyType({name: _read_only(a) for name, a in answer.items()})
        answer = MappingProxyType({name: _own(array) for name, array in answer.items()})
        if key in self._entries:
            self._drop(key)
        self._entries[key] = _Entry(answer, size_bytes, self._clock() + ttl_s)
        self.bytes += size_bytes
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))
            self.evictions += 1
        return answer

    def _drop(self, key: bytes) -> None:
        self.bytes -= self._entries.pop(key).size_bytes


def _look_at(task: asyncio.Task[tuple[Arrays, bool]]) -> None:
    """Asks how it ended, since nobody waits to hear it and asyncio would complain."""
    if not task.cancelled():
        task.exception()


def _size_bytes(answer: Arrays) -> int:
    size_bytes = _ENTRY_BYTES + len(answer) * _ARRAY_BYTES
    for array in answer.values():
        size_bytes += array.nbytes
        if array.dtype.hasobject:
            size_bytes += sum(len(element) + _ELEMENT_BYTES for element in array.ravel())
    return size_bytes


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _own(array: np.ndarray) -> np.ndarray:
    """The array itself if it has its memory to itself and nobody writes to it, otherwise a copy.

    A view of a batch would keep the whole batch in memory, whatever was counted.
    """
    if array.base is None and not array.flags.writeable:
        return array
    copy = array.copy()
    copy.flags.writeable = False
    return copy
