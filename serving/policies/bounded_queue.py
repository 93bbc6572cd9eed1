"""Requests that wait for a replica: in order, bounded in number and memory, none for too long."""

import heapq
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, NamedTuple, Self, TypeVar

from pydantic import Field, model_validator

from base.config import Section

# How many requests that are too large for what is left of a batch are passed over in search of
# smaller ones, a level: enough to fill batches of mixed sizes, and a bound on the time it takes.
_LOOK_AHEAD = 16
# Deadlines of requests that left are thrown away once they are more than those that wait, and this.
_SPARE_DEADLINES = 64


class QueueConfig(Section):
    """How much may wait for one model, and in which order."""

    max_requests: int = Field(
        default=1024, ge=1, le=10_000_000, description="Requests that may wait"
    )
    max_bytes: int = Field(
        default=256 * 2**20,
        ge=1024,
        le=2**50,
        description="Memory of all requests that wait, in bytes",
    )
    priority_levels: int = Field(
        default=3,
        ge=1,
        le=100,
        description="A request's priority is from 1, the most urgent, to this; larger ones count "
        "as this",
    )
    default_priority: int = Field(
        default=2, ge=1, le=100, description="What priority 0 stands for, which is that of most"
    )

    @model_validator(mode="after")
    def _check_default(self) -> Self:
        if self.default_priority > self.priority_levels:
            raise ValueError(
                f"default_priority {self.default_priority} is above priority_levels "
                f"{self.priority_levels}; it must be one of them"
            )
        return self


class Entry:
    """What waits. The batcher's own type of a request is made from this one.

    Attributes:
        size: number of examples, at least 1.
        size_bytes: of memory that it holds.
        key: only those of the same key are computed together, such as the shapes of an example.
        deadline: when it no longer makes sense to compute it, in the clock's seconds.
        priority: 0 is the default, 1 the most urgent.
    """

    __slots__ = ("_level", "_sequence", "deadline", "key", "priority", "size", "size_bytes")

    def __init__(
        self, size: int, size_bytes: int, key: Hashable, deadline: float, priority: int = 0
    ) -> None:
        self.size = size
        self.size_bytes = size_bytes
        self.key = key
        self.deadline = deadline
        self.priority = priority
        self._sequence = -1  # its number in the order of arrival
        self._level: _Level[Any] | None = None  # where it waits; None: it does not


AnyEntry = TypeVar("AnyEntry", bound=Entry)


class _Level(Generic[AnyEntry]):
    """Those of one priority, all in order of arrival and for each key in order of arrival."""

    __slots__ = ("by_key", "bytes", "entries", "examples")

    def __init__(self) -> None:
        self.entries: OrderedDict[int, AnyEntry] = OrderedDict()
        self.by_key: dict[Hashable, OrderedDict[int, AnyEntry]] = {}
        self.examples = 0
        self.bytes = 0


class Removed(NamedTuple, Generic[AnyEntry]):
    """What does not wait any more though it was not computed.

    Attributes:
        shed: for lack of room; the newcomer itself, if it is the one.
        expired: its deadline has passed.
    """

    shed: list[AnyEntry]
    expired: list[AnyEntry]


class Popped(NamedTuple, Generic[AnyEntry]):
    """What leaves the queue.

    Attributes:
        batch: to be computed together, the most urgent first; empty if nothing waits.
        expired: the deadline has passed; to be failed and not computed.
    """

    batch: list[AnyEntry]
    expired: list[AnyEntry]


class BoundedQueue(Generic[AnyEntry]):
    """A queue by priority, and by arrival within a priority.

    A batch always holds the first of all that wait, so that whoever has k others before it leaves
    with the (k + 1)th batch at the latest, whatever is passed over for its key or its size. A level
    waits for ever while more urgent ones keep coming: that is what priorities mean, and what
    deadlines end.

    Attributes:
        count: of requests that wait.
        examples: that they hold.
        bytes: of memory that they hold.
    """

    def __init__(self, config: QueueConfig) -> None:
        self.count = 0
        self.examples = 0
        self.bytes = 0
        self._max_requests = config.max_requests
        self._max_bytes = config.max_bytes
        self._usual = config.default_priority - 1
        self._levels: list[_Level[AnyEntry]] = [_Level() for _ in range(config.priority_levels)]
        self._arrivals = 0
        # A heap of (deadline, sequence, level). It names an entry without holding it, so that the
        # memory of one that left is let go at once.
        self._deadlines: list[tuple[float, int, _Level[AnyEntry]]] = []

    def push(self, entry: AnyEntry, now: float) -> Removed[AnyEntry] | None:
        """Adds an entry, if there is room or can be made.

        Room is made by those whose deadline has passed, then by those of less urgent levels, the
        least urgent and newest first. If that is not enough, nobody but the newcomer is shed.

        Returns:
            None: it was added, and nobody else is concerned. Otherwise who is.
        """
        if self.count < self._max_requests and self.bytes + entry.size_bytes <= self._max_bytes:
            self._add(entry)
            return None
        expired = self.expire(now)
        shed = self._make_room(entry)
        if shed is None:
            return Removed([entry], expired)
        self._add(entry)
        return Removed(shed, expired)

    def pop_batch(self, max_examples: int, now: float) -> Popped[AnyEntry]:
        """Takes the first that waits, and those of its key in order, up to a number of examples.

        The first is taken whatever its size; one that does not fit any more is passed over.
        """
        expired = self.expire(now)
        batch: list[AnyEntry] = []
        room = max_examples
        for level in self._levels:
            if not level.entries:
                continue
            key = (batch[0] if batch else next(iter(level.entries.values()))).key
            room = _take(level.by_key.get(key), room, batch)
            if room <= 0:
                break
        for entry in batch:
            self._remove(entry)
        return Popped(batch, expired)

    def cancel(self, entry: AnyEntry) -> bool:
        """Removes an entry and lets it go at once; False if it does not wait."""
        if entry._level is None:
            return False
        self._remove(entry)
        return True

    def expire(self, now: float) -> list[AnyEntry]:
        """Removes all whose deadline is `now` or before, and returns them, the earliest first."""
        deadlines = self._deadlines
        expired: list[AnyEntry] = []
        while deadlines and deadlines[0][0] <= now:
            _, sequence, level = heapq.heappop(deadlines)
            entry = level.entries.get(sequence)
            if entry is not None:
                self._remove(entry)
                expired.append(entry)
        return expired

    def examples_before(self, priority: int) -> int:
        """Examples that would be computed before those of a newcomer with this priority."""
        level = self._level_of(priority)
        return sum(self._levels[i].examples for i in range(level + 1))

    def _level_of(self, priority: int) -> int:
        return min(priority, len(self._levels)) - 1 if priority > 0 else self._usual

    def _add(self, entry: AnyEntry) -> None:
        assert entry._level is None, "it waits already"
        level = self._levels[self._level_of(entry.priority)]
        sequence = self._arrivals = self._arrivals + 1
        entry._sequence = sequence
        entry._level = level
        level.entries[sequence] = entry
        same = level.by_key.get(entry.key)
        if same is None:
            same = level.by_key[entry.key] = OrderedDict()
        same[sequence] = entry
        level.examples += entry.size
        level.bytes += entry.size_bytes
        self.count += 1
        self.examples += entry.size
        self.bytes += entry.size_bytes
        deadlines = self._deadlines
        if len(deadlines) > 2 * self.count + _SPARE_DEADLINES:
            deadlines[:] = [d for d in deadlines if d[1] in d[2].entries]
            heapq.heapify(deadlines)
        heapq.heappush(deadlines, (entry.deadline, sequence, level))

    def _remove(self, entry: AnyEntry) -> None:
        level, sequence = entry._level, entry._sequence
        assert level is not None
        entry._level = None
        del level.entries[sequence]
        same = level.by_key[entry.key]
        del same[sequence]
        if not same:
            del level.by_key[entry.key]
        level.examples -= entry.size
        level.bytes -= entry.size_bytes
        self.count -= 1
        self.examples -= entry.size
        self.bytes -= entry.size_bytes

    def _make_room(self, entry: AnyEntry) -> list[AnyEntry] | None:
        """Removes who must go for `entry`; None, and nobody, if that cannot make room."""
        less_urgent = self._levels[self._level_of(entry.priority) + 1 :]
        count = self.count + 1 - self._max_requests
        size_bytes = self.bytes + entry.size_bytes - self._max_bytes
        # Sums tell whether it can be done, so that a refusal does not cost a search.
        if sum(len(level.entries) for level in less_urgent) < count:
            return None
        if sum(level.bytes for level in less_urgent) < size_bytes:
            return None
        shed: list[AnyEntry] = []
        for level in reversed(less_urgent):
            while level.entries and (count > 0 or size_bytes > 0):
                victim = next(reversed(level.entries.values()))
                self._remove(victim)
                shed.append(victim)
                count -= 1
                size_bytes -= victim.size_bytes
        return shed


def _take(entries: OrderedDict[int, AnyEntry] | None, room: int, batch: list[AnyEntry]) -> int:
    """Appends to `batch` those that fit, in order; returns the room that is left."""
    if entries is None:
        return room
    passed_over = 0
    for entry in entries.values():
        if entry.size <= room or not batch:
            batch.append(entry)
            room -= entry.size
            if room <= 0:
                break
        else:
            passed_over += 1
            if passed_over > _LOOK_AHEAD:
                break
    return room
