"""The queue against a list that is searched from end to end, and what it promises in words."""

import gc
import random
import weakref

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import ValidationError

from serving.policies.bounded_queue import _LOOK_AHEAD, BoundedQueue, Entry, QueueConfig

NEVER = float("inf")


class Request(Entry):
    __slots__ = ("__weakref__", "name")

    def __init__(
        self,
        name: str = "",
        size: int = 1,
        size_bytes: int = 1,
        key: str = "a",
        deadline: float = NEVER,
        priority: int = 0,
    ) -> None:
        super().__init__(size, size_bytes, key, deadline, priority)
        self.name = name


def queue_of(*requests: Request, **config: int) -> BoundedQueue[Request]:
    queue = BoundedQueue[Request](QueueConfig(**config))
    for request in requests:
        assert queue.push(request, 0.0) is None
    return queue


def names(requests: list[Request]) -> str:
    return "".join(request.name for request in requests)


def batches(queue: BoundedQueue[Request], max_examples: int) -> list[str]:
    popped = []
    while queue.count:
        popped.append(names(queue.pop_batch(max_examples, 0.0).batch))
    return popped


def test_an_empty_queue_gives_an_empty_batch() -> None:
    assert queue_of().pop_batch(8, 0.0) == ([], [])


def test_first_come_first_served_up_to_the_batch_size() -> None:
    queue = queue_of(*(Request(name) for name in "abcde"))
    assert batches(queue, 2) == ["ab", "cd", "e"]


def test_the_most_urgent_first_and_zero_is_the_default_level() -> None:
    queue = queue_of(
        Request("w", priority=0),
        Request("x", priority=3),
        Request("y", priority=1),
        Request("z", priority=2),
    )
    assert batches(queue, 1) == ["y", "w", "z", "x"]


def test_a_priority_beyond_the_last_counts_as_the_last() -> None:
    queue = queue_of(Request("x", priority=2**31), Request("y", priority=3), Request("z"))
    assert batches(queue, 1) == ["z", "x", "y"]


def test_only_the_same_key_goes_together() -> None:
    queue = queue_of(*(Request(name, key=name.lower()) for name in "aBbAcB"))
    assert batches(queue, 8) == ["aA", "BbB", "c"]


def test_less_urgent_ones_of_the_same_key_fill_the_batch() -> None:
    queue = queue_of(
        Request("x", priority=3), Request("y", priority=1), Request("z", priority=2, key="b")
    )
    assert batches(queue, 8) == ["yx", "z"]


def test_smaller_ones_fill_what_is_left_of_a_batch() -> None:
    queue = queue_of(Request("x", 6), Request("y", 6), Request("z", 2), Request("w", 2))
    assert batches(queue, 8) == ["xz", "yw"]


def test_one_larger_than_a_batch_goes_by_itself() -> None:
    queue = queue_of(Request("x", 9), Request("y", 1))
    assert batches(queue, 8) == ["x", "y"]


def test_expired_ones_are_handed_out_and_never_computed() -> None:
    queue = queue_of(Request("x", deadline=1.0), Request("y", deadline=3.0), Request("z"))
    batch, expired = queue.pop_batch(8, 2.0)
    assert (names(batch), names(expired)) == ("yz", "x")


def test_expired_ones_make_room() -> None:
    queue = queue_of(Request("x", deadline=1.0), Request("y"), max_requests=2)
    removed = queue.push(Request("z"), 1.0)
    assert removed is not None
    assert (names(removed.shed), names(removed.expired)) == ("", "x")
    assert batches(queue, 8) == ["yz"]


def test_a_full_queue_sheds_an_equal_newcomer() -> None:
    queue = queue_of(Request("x"), max_requests=1)
    newcomer = Request("y")
    removed = queue.push(newcomer, 0.0)
    assert removed == ([newcomer], [])
    assert batches(queue, 8) == ["x"]


def test_an_urgent_newcomer_displaces_the_least_urgent_and_newest() -> None:
    queue = queue_of(
        Request("w", priority=3), Request("x", priority=3), Request("y"), max_requests=3
    )
    removed = queue.push(Request("z", priority=1), 0.0)
    assert removed is not None
    assert names(removed.shed) == "x"
    assert batches(queue, 1) == ["z", "y", "w"]


def test_several_go_for_one_of_many_bytes() -> None:
    queue = queue_of(*(Request(n, size_bytes=400, priority=3) for n in "xyz"), max_bytes=1200)
    removed = queue.push(Request("w", size_bytes=700), 0.0)
    assert removed is not None
    assert names(removed.shed) == "zy"
    assert queue.bytes == 1100


def test_no_more_go_than_make_room_to_the_byte() -> None:
    queue = queue_of(*(Request(n, size_bytes=400, priority=3) for n in "xyz"), max_bytes=1200)
    for newcomer, expected in ((Request("v", size_bytes=400), "z"), (Request("w", 1, 800), "yx")):
        removed = queue.push(newcomer, 0.0)
        assert removed is not None
        assert names(removed.shed) == expected


def test_nobody_goes_where_that_would_not_make_room() -> None:
    queue = queue_of(
        Request("x", size_bytes=800, priority=1),
        Request("y", size_bytes=300, priority=3),
        max_bytes=1200,
    )
    newcomer = Request("z", size_bytes=500)
    assert queue.push(newcomer, 0.0) == ([newcomer], [])
    assert batches(queue, 1) == ["x", "y"]


def test_memory_of_a_cancelled_one_is_let_go_at_once() -> None:
    request = Request("x", deadline=5.0)
    queue = queue_of(Request("y"), request)
    gone = weakref.ref(request)
    assert queue.cancel(request)
    assert not queue.cancel(request)
    del request
    gc.collect()
    assert gone() is None
    assert (queue.count, queue.bytes, queue.examples) == (1, 1, 1)


def test_cancelled_ones_leave_no_trace_that_grows() -> None:
    queue = queue_of(Request())
    for _ in range(10_000):
        request = Request(deadline=1e9)
        queue.push(request, 0.0)
        queue.cancel(request)
    assert len(queue._deadlines) < 200


def test_deadlines_keep_their_order_while_others_leave() -> None:
    draw = random.Random(0)
    queue, waiting = queue_of(), []
    for _ in range(1000):
        request = Request(deadline=draw.random())
        queue.push(request, 0.0)
        waiting.append(request)
        if len(waiting) > 50:
            queue.cancel(waiting.pop(draw.randrange(len(waiting))))
    for now in (0.3, 0.6, 1.0):
        late = sorted(r.deadline for r in waiting if r.deadline <= now)
        assert [request.deadline for request in queue.expire(now)] == late
        waiting = [r for r in waiting if r.deadline > now]
    assert queue.count == 0


def test_examples_before_a_newcomer_are_those_of_its_level_and_above() -> None:
    queue = queue_of(Request(size=1, priority=1), Request(size=2), Request(size=4, priority=3))
    assert [queue.examples_before(priority) for priority in (1, 2, 0, 3, 99)] == [1, 3, 3, 7, 7]


def test_a_default_beyond_the_levels_is_refused() -> None:
    assert QueueConfig(priority_levels=2).default_priority == 2
    with pytest.raises(ValidationError, match="default_priority 4 is above priority_levels 3"):
        QueueConfig(default_priority=4)


class QueueMachine(RuleBasedStateMachine):
    """Any sequence of calls, beside a plain list in order of arrival."""

    @initialize(max_requests=st.integers(1, 12), max_bytes=st.sampled_from([1024, 4096]))
    def start(self, max_requests: int, max_bytes: int) -> None:
        self.config = QueueConfig(max_requests=max_requests, max_bytes=max_bytes)
        self.queue = BoundedQueue[Request](self.config)
        self.waiting: list[Request] = []
        self.now = 0.0

    def level(self, request: Request) -> int:
        return min(request.priority, 3) if request.priority else 2

    def order(self) -> list[Request]:
        return sorted(self.waiting, key=self.level)  # stable: by arrival within a level

    def drop_expired(self, expired: list[Request]) -> None:
        late = [request for request in self.waiting if request.deadline <= self.now]
        assert sorted(map(id, expired)) == sorted(map(id, late))
        assert [r.deadline for r in expired] == sorted(r.deadline for r in late)
        self.waiting = [request for request in self.waiting if request not in late]

    @rule(
        size=st.integers(1, 6),
        size_bytes=st.integers(0, 900),
        key=st.sampled_from("ab"),
        wait=st.one_of(st.integers(0, 8), st.just(NEVER)),
        priority=st.integers(0, 4),
    )
    def push(self, size: int, size_bytes: int, key: str, wait: float, priority: int) -> None:
        new = Request("", size, size_bytes, key, self.now + wait, priority)
        removed = self.queue.push(new, self.now)
        if removed is None:
            self.waiting.append(new)
            return
        self.drop_expired(removed.expired)
        if removed.shed == [new]:
            # Not even without all that are less urgent was there room.
            keep = [r for r in self.waiting if self.level(r) <= self.level(new)]
            assert not self.fits([*keep, new])
            return
        # The shed are the last of those in order, all less urgent, and none too many.
        assert all(self.level(r) > self.level(new) for r in removed.shed)
        assert removed.shed == self.order()[::-1][: len(removed.shed)]
        if removed.shed:
            needed = [r for r in self.waiting if r not in removed.shed[:-1]]
            assert not self.fits([*needed, new])
        self.waiting = [r for r in self.waiting if r not in removed.shed] + [new]

    def fits(self, requests: list[Request]) -> bool:
        return (
            len(requests) <= self.config.max_requests
            and sum(r.size_bytes for r in requests) <= self.config.max_bytes
        )

    @rule(max_examples=st.integers(1, 8))
    def pop(self, max_examples: int) -> None:
        batch, expired = self.queue.pop_batch(max_examples, self.now)
        self.drop_expired(expired)
        expected: list[Request] = []
        for request in self.order():
            room = max_examples - sum(r.size for r in expected)
            if not expected or (request.key == expected[0].key and request.size <= room):
                expected.append(request)
        assert batch == expected
        self.waiting = [r for r in self.waiting if r not in batch]

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.waiting))
        assert self.queue.cancel(request)
        self.waiting.remove(request)

    @rule(seconds=st.integers(0, 4))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        self.drop_expired(self.queue.expire(self.now))

    @invariant()
    def counts_are_right(self) -> None:
        queue = self.queue
        assert queue.count == len(self.waiting) <= self.config.max_requests
        assert queue.bytes == sum(r.size_bytes for r in self.waiting) <= self.config.max_bytes
        assert queue.examples == sum(r.size for r in self.waiting) == queue.examples_before(4)


TestQueueMachine = QueueMachine.TestCase


def test_whoever_has_k_before_it_leaves_with_batch_k_plus_1() -> None:
    queue = queue_of(*(Request(key, size=4, key=key) for key in "pqr"), Request("x", 8, key="b"))
    left = []
    for _ in range(4):
        # Others of all keys keep coming, and would fit where the large one does not.
        for key in "pqrb":
            queue.push(Request(size=1, key=key), 0.0)
        left.append(queue.pop_batch(8, 0.0).batch[0].name)
    assert left == ["p", "q", "r", "x"]


def test_the_search_for_smaller_ones_ends() -> None:
    large = [Request("x", size=8) for _ in range(_LOOK_AHEAD + 2)]
    queue = queue_of(Request("y", size=1), *large, Request("z", size=1))
    assert names(queue.pop_batch(8, 0.0).batch) == "y"
    assert names(queue.pop_batch(8, 0.0).batch) == "x"
    assert batches(queue, 9)[0] == "xz"
