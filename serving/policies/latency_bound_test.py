"""What callers of a replica see whose batches take a known time, while more comes than it computes.

The replica is simulated: it computes whatever waits as one batch, up to a largest size.
"""

import random
from dataclasses import dataclass, field
from math import inf

import numpy as np
import pytest

from serving.policies.latency_bound import LatencyBound, LatencyConfig
from serving.policies.service_time import ServiceTime, ServiceTimeConfig

MAX_BATCH = 64
NOISE = 0.05  # of how long a batch takes


@dataclass
class Model:
    """How long a batch takes, as the policy has to find out: a n + b, seconds."""

    a: float
    b: float

    @property
    def capacity_hz(self) -> float:
        return MAX_BATCH / (self.a * MAX_BATCH + self.b)


@dataclass
class Seen:
    """What callers saw: when the answered ones asked, how long they took, and who was refused."""

    asked_s: list[float] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    refused: int = 0

    def p99_s(self, begin_s: float = 0.0) -> float:
        took = [t for at, t in zip(self.asked_s, self.took_s, strict=True) if at >= begin_s]
        return float(np.quantile(took, 0.99))


class Replica:
    """One replica, its queue, and the policy before it."""

    def __init__(self, model: Model, config: LatencyConfig, seed: int = 0) -> None:
        self.service_time = ServiceTime(ServiceTimeConfig())
        self.bound = LatencyBound(config, self.service_time)
        self.seen = Seen()
        self.now = 0.0
        self._model, self._draw = model, random.Random(seed)
        self._waiting: list[float] = []
        self._running: list[float] = []
        self._began, self._ends = 0.0, inf

    def open_loop(self, rate_hz: float, seconds: float) -> None:
        """Callers come at random, and do not wait for each other."""
        end = self.now + seconds
        while (arrival := self.now + self._draw.expovariate(rate_hz)) < end:
            self._go_on(arrival)
            self.ask()
        self._go_on(end)

    def closed_loop(self, callers: int, seconds: float) -> int:
        """Each asks again when it has its answer; returns how many were refused."""
        end, before = self.now + seconds, self.seen.refused
        in_work = len(self._waiting) + len(self._running)
        for _ in range(callers - in_work):
            self.ask()
        while self._ends < end:
            answered = len(self._running)
            self._go_on(self._ends)
            for _ in range(answered):
                self.ask()
        return self.seen.refused - before

    def ask(self) -> None:
        """One request comes."""
        in_work = len(self._waiting) + len(self._running)
        if in_work >= self.bound.examples(self.now, MAX_BATCH, 1):
            self.bound.refused(self.now, patience_s=inf)
            self.seen.refused += 1
            return
        self._waiting.append(self.now)
        if not self._running:
            self._begin()

    def _go_on(self, until: float) -> None:
        while self._ends <= until:
            self.now = self._ends
            self.service_time.record(len(self._running), self.now - self._began)
            self.seen.asked_s += self._running
            self.seen.took_s += [self.now - asked for asked in self._running]
            self._running, self._ends = [], inf
            if self._waiting:
                self._begin()
        self.now = until

    def _begin(self) -> None:
        self._running, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        factor = self._draw.lognormvariate(0, NOISE)
        self._began = self.now
        self._ends = self.now + factor * (self._model.a * len(self._running) + self._model.b)


# Every example costs; the batch costs as well; it is nearly all that costs; and a very slow one.
MODELS = [Model(0.02, 0.001), Model(0.0036, 0.005), Model(0.0002, 0.02), Model(0.05, 0.05)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", MODELS)
def test_under_threefold_overload_answers_take_twice_as_long_at_most(
    model: Model, seed: int
) -> None:
    calm, busy = (Replica(model, LatencyConfig(), seed) for _ in range(2))
    calm.open_loop(0.3 * model.capacity_hz, 100)
    assert calm.seen.refused == 0
    busy.open_loop(0.3 * model.capacity_hz, 20)
    busy.open_loop(3 * model.capacity_hz, 22)
    # The burst that came first is over.
    assert busy.seen.p99_s(22) <= 2 * calm.seen.p99_s()
    answered = sum(at >= 22 for at in busy.seen.asked_s)
    assert answered / 20 >= 0.5 * model.capacity_hz


def test_callers_who_wait_for_their_answers_are_not_refused() -> None:
    replica = Replica(MODELS[1], LatencyConfig())
    assert replica.closed_loop(32, 20) == 0


def test_a_fast_model_takes_as_many_as_it_answers_within_the_least_time() -> None:
    replica = Replica(Model(0.00005, 0.0005), LatencyConfig())
    assert replica.closed_loop(4, 1) == 0
    assert replica.closed_loop(128, 1) == 0
    assert replica.closed_loop(512, 1) == 0


def test_a_model_that_became_slower_is_not_left_with_tiny_batches() -> None:
    replica = Replica(Model(0.0002, 0.02), LatencyConfig())
    replica.open_loop(5000, 5)
    replica._model = Model(0.0004, 0.2)
    replica.open_loop(5000, 5)
    answered = len(replica.seen.took_s)
    replica.open_loop(5000, 20)
    # Half of what full batches would.
    assert (len(replica.seen.took_s) - answered) / 20 >= 0.45 * replica._model.capacity_hz


def known(model: Model, **config: float) -> LatencyBound:
    service_time = ServiceTime(ServiceTimeConfig(skip=0))
    for size in [1, 2, 4, 8, 16, 32, 64] * 5:
        service_time.record(size, model.a * size + model.b)
    return LatencyBound(LatencyConfig.model_validate(config), service_time)


def test_a_burst_passes_once_until_nobody_is_refused_for_a_while() -> None:
    bound = known(Model(0.01, 0.01), burst=20, hold_s=1.0, probe_s=30.0)
    # 4 * 20 ms, of which two batches cost 20 ms.
    assert bound.answer_s == pytest.approx(0.08)
    assert bound.examples(0.0, MAX_BATCH, 1) == 20
    bound.refused(0.0, patience_s=60.0)
    assert bound.examples(0.9, MAX_BATCH, 1) == pytest.approx(6)
    assert bound.examples(0.9, MAX_BATCH, 3) == pytest.approx(18)
    assert bound.examples(1.0, MAX_BATCH, 1) == 20


def test_after_a_while_another_burst_may_come_though_some_are_refused() -> None:
    bound = known(Model(0.01, 0.01), burst=20, hold_s=1.0, probe_s=5.0)
    for tenth in range(49):
        bound.refused(0.1 * tenth, patience_s=60.0)
        assert bound.examples(0.1 * tenth, MAX_BATCH, 1) == pytest.approx(6)
    assert bound.examples(5.0, MAX_BATCH, 1) == 20
    bound.refused(5.1, patience_s=60.0)
    assert bound.examples(6.0, MAX_BATCH, 1) == pytest.approx(6)


def test_fast_batches_are_full_ones() -> None:
    bound = known(Model(0.0, 0.016), burst=1)
    bound.refused(0.0, patience_s=60.0)
    assert bound.examples(0.0, MAX_BATCH, 1) == 4 * MAX_BATCH  # each answered after four of them


def test_whoever_has_no_patience_is_no_reason_to_refuse_others() -> None:
    bound = known(Model(0.01, 0.01), burst=20)
    bound.refused(0.0, patience_s=0.05)
    assert bound.examples(0.0, MAX_BATCH, 1) == 20


@pytest.mark.parametrize("config", [{"enabled": False}, {}])
def test_nothing_is_bounded_that_is_unknown_or_shall_not_be(config: dict[str, bool]) -> None:
    if config:
        bound = known(Model(1.0, 1.0), **config)
    else:
        bound = LatencyBound(LatencyConfig(), ServiceTime(ServiceTimeConfig()))
    bound.refused(0.0, patience_s=60.0)
    assert bound.examples(0.5, MAX_BATCH, 1) == inf
