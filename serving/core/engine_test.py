"""Every request is admitted, answered or refused, and reported exactly once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from serving.core.admission import Admission
from serving.core.batcher import Batcher
from serving.core.cache import CacheConfig, ResponseCache
from serving.core.catalog import Catalog, Served, State
from serving.core.engine import Engine
from serving.core.errors import Kind, ServingError, invalid
from serving.core.model import ServedModel
from serving.core.model_policy import ModelPolicy
from serving.core.outcome import Outcome
from serving.core.request import Call, Inputs, Protocol
from serving.testing.held_channels import SUMS, HeldChannel, HeldChannels


@dataclass
class Recorder:
    """Keeps what it is told."""

    outcomes: list[Outcome] = field(default_factory=list)

    def done(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def event(self, name: str, **facts: object) -> None:
        raise AssertionError(name)


class House:
    """An engine with one version of one model, whose replica answers when told."""

    def __init__(
        self,
        max_requests: int = 8,
        max_bytes: int = 100,
        cache: ResponseCache | None = None,
        *,
        starting: bool = False,
    ) -> None:
        self.channel = HeldChannel("a")
        self.channels = HeldChannels(self.channel)
        self.catalog = Catalog()
        self.admission = Admission(max_requests, max_bytes)
        self.recorder = Recorder()
        engine = Engine(self.catalog, self.admission, self.recorder, cache, starting=starting)
        self.engine = engine
        self.served = self.serve(SUMS, self.channels)

    def serve(
        self,
        model: ServedModel,
        channels: HeldChannels,
        *,
        default: bool = True,
        policy: ModelPolicy | None = None,
    ) -> Served:
        served = Served(model, channels, Batcher(model, channels, policy))
        self.catalog.add(served, default=default)
        return served

    def start(self, decode: Callable[[ServedModel], Inputs], **facts: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(self.engine.infer(call(**facts), decode))


def call(**facts: Any) -> Call:
    usual = Call(Protocol.REST, "sums", "", "id", "client", 8, time.monotonic() + 600)
    return replace(usual, **facts)


def one_row(model: ServedModel) -> Inputs:
    return Inputs({"x": np.array([[1, 2]], np.float32)}, ("sum",))


def in_loop(test: Callable[[House], Awaitable[None]], **limits: Any) -> None:
    async def run() -> None:
        await test(House(**limits))

    asyncio.run(run())


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def kind_of(task: asyncio.Task[Any]) -> Kind:
    with pytest.raises(ServingError) as raised:
        await task
    return raised.value.kind


def test_an_answer_says_which_version_gave_it() -> None:
    async def test(house: House) -> None:
        task = house.start(one_row)
        await settled()
        house.channel.finish()
        answer = await task
        assert (answer.model, answer.version) == ("sums", "1.2.3")
        assert answer.outputs["sum"].tolist() == [3.0]
        (outcome,) = house.recorder.outcomes
        assert (outcome.error, outcome.version, outcome.batch_size) == (None, "1.2.3", 1)

    in_loop(test)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"model": "other"}, "unknown model 'other'; served here: 'sums'"),
        ({"model": "../sums"}, "unknown model '../sums'"),
        ({"version": "2"}, "unknown version '2' of 'sums'; served here: '1.2.3'"),
        ({"model": "x" * 10_000}, r"^.{0,200}$"),
    ],
)
def test_what_is_not_served_is_not_found(facts: dict[str, str], message: str) -> None:
    async def test(house: House) -> None:
        with pytest.raises(ServingError, match=message) as raised:
            await house.start(one_row, **facts)
        assert raised.value.kind is Kind.NOT_FOUND
        assert not house.channel.jobs
        assert house.admission.requests == 0

    in_loop(test)


def test_a_request_that_does_not_fit_is_refused_and_gives_its_place_back() -> None:
    def refuse(model: ServedModel) -> Inputs:
        raise invalid("input 'x' is wrong")

    async def test(house: House) -> None:
        assert await kind_of(house.start(refuse)) is Kind.INVALID
        assert (house.admission.requests, house.admission.bytes) == (0, 0)

    in_loop(test)


def test_a_fault_of_ours_is_told_by_number_alone(caplog: pytest.LogCaptureFixture) -> None:
    def fail(model: ServedModel) -> Inputs:
        raise KeyError("/secret/path")

    async def test(house: House) -> None:
        with pytest.raises(ServingError, match=r"^internal error, incident [0-9a-f]{16}$") as told:
            await house.start(fail)
        assert told.value.kind is Kind.INTERNAL
        assert told.value.message.split()[-1] in caplog.text

    in_loop(test)


def test_no_more_requests_at_once_than_allowed() -> None:
    async def test(house: House) -> None:
        tasks = [house.start(one_row) for _ in range(2)]
        await settled()
        assert await kind_of(house.start(one_row)) is Kind.OVERLOADED
        house.channel.finish()
        await tasks[0]
        last = house.start(one_row)
        await settled()
        house.channel.finish()
        house.channel.finish()
        await asyncio.gather(tasks[1], last)

    in_loop(test, max_requests=2)


def test_no_more_bytes_at_once_than_allowed_except_of_one_alone() -> None:
    async def test(house: House) -> None:
        large = house.start(one_row, size_bytes=500)
        await settled()
        assert await kind_of(house.start(one_row, size_bytes=1)) is Kind.OVERLOADED
        house.channel.finish()
        await large

    in_loop(test, max_bytes=100)


def test_a_caller_that_goes_away_is_reported_and_gives_its_place_back() -> None:
    async def test(house: House) -> None:
        task = house.start(one_row)
        await settled()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (outcome,) = house.recorder.outcomes
        assert outcome.error is not None
        assert outcome.error.kind is Kind.CANCELLED
        assert house.admission.requests == 0

    in_loop(test)


def test_readiness_is_the_truth() -> None:
    async def test(house: House) -> None:
        told: list[str | None] = []
        end = house.engine.subscribe(lambda: told.append(house.engine.server_why_not_ready()))
        assert house.engine.why_not_ready("sums") is None
        house.channels.change()
        assert house.engine.why_not_ready("sums") == "the replica died"
        assert [state.state for state in house.engine.models()] == [State.UNAVAILABLE]
        house.channels.change(house.channel)
        house.engine.drain()
        assert told == ["sums 1.2.3: the replica died", None, "the server is shutting down"]
        end()
        house.channels.change()
        assert len(told) == 3

    in_loop(test)


def test_it_is_not_ready_while_more_models_are_to_come() -> None:
    async def test() -> None:
        house = House(starting=True)
        told: list[str | None] = []
        house.engine.subscribe(lambda: told.append(house.engine.server_why_not_ready()))
        assert house.engine.server_why_not_ready() == "the server is starting"
        house.channels.change()
        house.channels.change(house.channel)
        house.engine.started()
        assert told == ["sums 1.2.3: the replica died", "the server is starting", None]

    asyncio.run(test())


def test_a_new_version_takes_over_while_the_old_one_answers_what_it_has() -> None:
    async def test(house: House) -> None:
        running = house.start(one_row)
        await settled()
        channel = HeldChannel("new")
        new = house.serve(replace(SUMS, version="2.0.0"), HeldChannels(channel))
        house.catalog.remove(house.served)
        following = house.start(one_row)
        await settled()
        house.channel.finish()
        channel.finish()
        assert [(await task).version for task in (running, following)] == ["1.2.3", "2.0.0"]
        assert house.engine.find("sums") is new.model
        assert await kind_of(house.start(one_row, version="1.2.3")) is Kind.NOT_FOUND

    in_loop(test)


def test_versions_are_served_side_by_side_and_the_default_is_the_one_that_was_named_so() -> None:
    async def test(house: House) -> None:
        house.serve(replace(SUMS, version="2.0.0"), HeldChannels(), default=False)
        assert house.engine.find("sums").version == "1.2.3"
        assert house.engine.find("sums", "2.0.0").version == "2.0.0"
        assert house.engine.default_model().version == "1.2.3"
        assert house.engine.server_why_not_ready() == "sums 2.0.0: the replica died"

    in_loop(test)


def test_what_was_answered_is_not_computed_again() -> None:
    async def test(house: House) -> None:
        asked = [house.start(one_row) for _ in range(3)]
        await settled()
        house.channel.finish()
        answers = [await task for task in asked] + [await house.start(one_row)]
        assert [answer.outputs["sum"].tolist() for answer in answers] == [[3.0]] * 4
        assert [answer.timings.cached for answer in answers] == [False, True, True, True]
        assert len(house.channel.jobs) == 1

    in_loop(test, cache=ResponseCache(CacheConfig(enabled=True)))


def test_what_is_not_finite_is_told_of_every_answer_and_computed_again() -> None:
    def infinite(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"sum": np.full(len(inputs["x"]), np.inf, np.float32)}

    async def test(house: House) -> None:
        house.serve(SUMS, house.channels, policy=ModelPolicy(nonfinite="allow"))
        for number in (1, 2):
            asked = [house.start(one_row) for _ in range(2)]
            await settled()
            assert len(house.channel.jobs) == number
            house.channel.finish(infinite)
            answers = [await task for task in asked]
            assert [answer.outputs["sum"].tolist() for answer in answers] == [[np.inf]] * 2
            assert [answer.timings.cached for answer in answers] == [False, True]
        assert [outcome.nonfinite for outcome in house.recorder.outcomes] == [True] * 4

    in_loop(test, cache=ResponseCache(CacheConfig(enabled=True)))


def test_who_waits_for_the_computation_of_another_has_a_deadline_of_its_own() -> None:
    async def test(house: House) -> None:
        first = house.start(one_row)
        await settled()
        second = house.start(one_row, deadline=time.monotonic() + 0.001)
        assert await kind_of(second) is Kind.DEADLINE
        house.channel.finish()
        await first

    in_loop(test, cache=ResponseCache(CacheConfig(enabled=True)))
