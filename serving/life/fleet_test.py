"""What is served follows what was asked for, and no request notices the change."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from registry.errors import NotFoundError
from serving.configuration.model_config import ModelConfig, ModelOptions
from serving.core.admission import Admission
from serving.core.catalog import Catalog, State
from serving.core.engine import Engine
from serving.core.errors import Kind, ServingError
from serving.core.model import ServedModel
from serving.core.outcome import NoObserver, Outcome
from serving.core.request import Answer, Call, Inputs, Protocol
from serving.errors import StartError
from serving.life.fleet import Fleet, ModelControl
from serving.life.refused import FIRST_S
from serving.testing.held_channels import SUMS, HeldChannel, HeldChannels


def wanted(reference: str) -> ModelConfig:
    return ModelConfig(reference=reference)


CHAMPION = wanted("sums@champion")
PERIOD_S = 0.001


@dataclass
class Versions:
    """A registry of versions by reference; the digest of one is its version."""

    by_reference: dict[str, str] = field(default_factory=lambda: {"sums@champion": "1.0.0"})

    def find(self, wanted: ModelConfig) -> ServedModel:
        version = self.digest(wanted)
        return replace(SUMS, name=wanted.name or "sums", version=version, digest=version)

    def digest(self, wanted: ModelConfig) -> str:
        if wanted.reference not in self.by_reference:
            raise NotFoundError(f"there is no {wanted.reference}")
        return self.by_reference[wanted.reference]


class Replicas:
    """The one replica of a version."""

    def __init__(
        self, version: str, warm: asyncio.Event, removed: list[str], broken: set[str]
    ) -> None:
        self.channel = HeldChannel(version)
        self.channels = HeldChannels()
        self.channels.is_starting = True
        self._warm = warm
        self._removed = removed
        self._broken = broken

    async def ready(self) -> None:
        await self._warm.wait()
        if self.channel.name in self._broken:
            raise StartError(f"{self.channel.name} does not start")
        self.channels.change(self.channel)

    async def remove(self) -> None:
        self._removed.append(self.channel.name)


class House:
    """A fleet whose replicas are warm when a test says so."""

    def __init__(self) -> None:
        self.versions = Versions()
        self.warm = asyncio.Event()
        self.warm.set()
        self.placed: dict[str, Replicas] = {}
        self.removed: list[str] = []
        self.broken = {"2.0.0-broken"}
        self.now = 0.0
        self.catalog = Catalog()
        self.engine = Engine(self.catalog, Admission(100, 10_000), NoObserver())
        self.told: list[str] = []
        self.fleet = Fleet(self.catalog, self.versions, self, clock=lambda: self.now)
        self.fleet.open(self)

    def done(self, outcome: Outcome) -> None:
        raise AssertionError(outcome)

    def event(self, name: str, **facts: object) -> None:
        self.told.append(name)

    async def place(self, model: ServedModel, options: ModelOptions) -> Replicas:
        self.placed[model.version] = Replicas(model.version, self.warm, self.removed, self.broken)
        return self.placed[model.version]

    def ask(self, name: str = "sums", version: str = "") -> asyncio.Task[Answer]:
        call = Call(Protocol.GRPC, name, version, "id", "client", 8, 1e12)
        inputs = Inputs({"x": np.ones((1, 2), np.float32)}, ("sum",))
        return asyncio.create_task(self.engine.infer(call, lambda model: inputs))

    def served(self) -> list[tuple[str, State]]:
        return [(state.model.version, state.state) for state in self.engine.models()]


def in_loop(test: Callable[[House], Awaitable[None]]) -> None:
    async def run() -> None:
        await asyncio.wait_for(test(House()), 30)

    asyncio.run(run())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  what is waited for tells nobody
        await asyncio.sleep(0.001)


def test_a_model_that_starts_is_known_and_not_ready() -> None:
    async def test(house: House) -> None:
        house.warm.clear()
        loading = asyncio.create_task(house.fleet.load(CHAMPION))
        await until(lambda: bool(house.served()))
        assert house.served() == [("1.0.0", State.LOADING)]
        house.warm.set()
        await loading
        assert house.served() == [("1.0.0", State.READY)]

    in_loop(test)


def test_an_alias_that_moves_is_followed_and_nobody_notices() -> None:
    async def test(house: House) -> None:
        await house.fleet.load(CHAMPION)
        following = asyncio.create_task(house.fleet.follow(PERIOD_S))
        house.warm.clear()
        house.versions.by_reference["sums@champion"] = "2.0.0"
        await until(lambda: "2.0.0" in house.placed)
        assert house.served() == [("1.0.0", State.READY)]  # until the new one is warm
        running = house.ask()
        await until(lambda: bool(house.placed["1.0.0"].channel.jobs))
        house.warm.set()
        await until(lambda: house.served() == [("2.0.0", State.READY)])
        later = house.ask()
        await until(lambda: bool(house.placed["2.0.0"].channel.jobs))
        assert house.removed == []  # the old one still has a request
        house.placed["1.0.0"].channel.finish()
        house.placed["2.0.0"].channel.finish()
        assert [(await task).version for task in (running, later)] == ["1.0.0", "2.0.0"]
        await until(lambda: house.removed == ["1.0.0"])
        following.cancel()

    in_loop(test)


@pytest.mark.parametrize("moved_to", ["2.0.0-broken", None])
def test_what_cannot_be_loaded_changes_nothing(moved_to: str | None) -> None:
    async def test(house: House) -> None:
        await house.fleet.load(CHAMPION)
        following = asyncio.create_task(house.fleet.follow(PERIOD_S))
        if moved_to is None:
            del house.versions.by_reference["sums@champion"]
            await asyncio.sleep(10 * PERIOD_S)
        else:
            house.versions.by_reference["sums@champion"] = moved_to
            await until(lambda: house.removed == [moved_to])
        assert house.served() == [("1.0.0", State.READY)]
        await asyncio.sleep(10 * PERIOD_S)
        assert house.told.count("alias_not_followed") == 1
        house.versions.by_reference["sums@champion"] = "3.0.0"
        await until(lambda: house.served() == [("3.0.0", State.READY)])
        following.cancel()

    in_loop(test)


def test_a_version_that_did_not_start_is_tried_again_after_a_while() -> None:
    async def test(house: House) -> None:
        await house.fleet.load(CHAMPION)
        following = asyncio.create_task(house.fleet.follow(PERIOD_S))
        house.versions.by_reference["sums@champion"] = "2.0.0-broken"
        await until(lambda: len(house.removed) == 1)
        await asyncio.sleep(10 * PERIOD_S)
        assert len(house.removed) == 1
        house.now = FIRST_S
        await until(lambda: len(house.removed) == 2)
        house.broken.clear()
        house.now += FIRST_S
        await asyncio.sleep(10 * PERIOD_S)
        assert house.served() == [("1.0.0", State.READY)]  # it waits twice as long now
        house.now += FIRST_S
        await until(lambda: house.served() == [("2.0.0-broken", State.READY)])
        assert house.told.count("alias_not_followed") == 1
        following.cancel()

    in_loop(test)


def test_two_references_to_one_version_share_its_replicas() -> None:
    async def test(house: House) -> None:
        house.versions.by_reference["sums:1"] = "1.0.0"
        await house.fleet.load(CHAMPION)
        await house.fleet.load(wanted("sums:1"))
        assert list(house.placed) == ["1.0.0"]
        house.versions.by_reference["sums@champion"] = "2.0.0"
        await house.fleet.load(CHAMPION)
        assert house.served() == [("2.0.0", State.READY), ("1.0.0", State.READY)]
        assert house.removed == []

    in_loop(test)


def test_what_is_named_first_is_the_default_and_stays_it_when_it_moves() -> None:
    async def test(house: House) -> None:
        house.versions.by_reference["sums:0"] = "0.9.0"
        await house.fleet.load(CHAMPION)
        await house.fleet.load(wanted("sums:0"))
        assert house.engine.find("sums").version == "1.0.0"
        house.versions.by_reference["sums@champion"] = "2.0.0"
        await house.fleet.load(CHAMPION)
        assert house.engine.find("sums").version == "2.0.0"
        assert house.engine.find("sums", "0.9.0").version == "0.9.0"

    in_loop(test)


def test_a_model_is_loaded_and_unloaded_by_name_where_that_is_allowed() -> None:
    async def test(house: House) -> None:
        control = ModelControl(house.fleet, wanted)
        house.versions.by_reference["sums"] = "1.5.0"
        await control.load("sums")
        assert house.served() == [("1.5.0", State.READY)]
        await control.unload("sums")
        await until(lambda: house.removed == ["1.5.0"])
        assert house.served() == []
        for name in ("../sums", "./sums", "/etc", "other"):
            with pytest.raises(ServingError) as raised:
                await control.load(name)
            assert raised.value.kind is Kind.INVALID

    in_loop(test)


def test_all_replicas_are_ended_at_the_end() -> None:
    async def test(house: House) -> None:
        house.versions.by_reference["sums:0"] = "0.9.0"
        await house.fleet.load(CHAMPION)
        await house.fleet.load(wanted("sums:0"))
        await house.fleet.close()
        assert sorted(house.removed) == ["0.9.0", "1.0.0"]

    in_loop(test)
