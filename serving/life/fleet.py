"""The models that are loaded: from references to served versions, and after an alias that moves.

A new version is started and warm before the old one stops taking requests, and the old one answers
what it has before its replicas end: a move is nothing that a caller could notice.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from models.architecture import ModelConfigError
from registry.access import is_path
from registry.artifact import ArtifactError
from serving.configuration.model_config import ModelConfig, ModelOptions
from serving.core.batcher import Batcher
from serving.core.catalog import Catalog, Served
from serving.core.channel import Channels
from serving.core.errors import Kind, ServingError, quote
from serving.core.model import ServedModel
from serving.core.outcome import Observer
from serving.errors import StartError
from serving.life.refused import Refused


class Placed(Protocol):
    """The replicas of one version."""

    @property
    def channels(self) -> Channels:
        """Those that are connected."""

    async def ready(self) -> None:
        """Waits until all of them are warm.

        Raises:
            StartError: They will not be.
        """

    async def remove(self) -> None:
        """Ends them."""


class Placer(Protocol):
    """Who starts replicas."""

    async def place(self, model: ServedModel, options: ModelOptions) -> Placed:
        """Begins to start the replicas of a version: who computes, and how many.

        Raises:
            StartError: Not even that.
        """


class Registry(Protocol):
    """Where references lead. Both may block for seconds, and raise ArtifactError or OSError."""

    def find(self, wanted: ModelConfig) -> ServedModel:
        """What a reference means now, fetched and trusted."""

    def digest(self, wanted: ModelConfig) -> str:
        """Which artifact that is, without fetching it."""


@dataclass(eq=False)
class _Loaded:
    """A version that is served, and by whom it is wanted."""

    served: Served
    placed: Placed
    wanted_by: set[ModelConfig] = field(default_factory=set)


class Fleet:
    """Loads models into a catalog, follows aliases, and unloads.

    Args:
        catalog: Where they are served.
        registry: Where references lead.
        observer: Is told what happens.
        drain_s: How long the requests of a version that leaves may take.
        clock: Tells when what failed may be tried again, in seconds.
    """

    def __init__(
        self,
        catalog: Catalog,
        registry: Registry,
        observer: Observer,
        *,
        drain_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._registry = registry
        self._placer: Placer | None = None
        self._observer = observer
        self._drain_s = drain_s
        self._loaded: dict[ModelConfig, _Loaded] = {}
        # One change at a time: two that meet would start the same version twice.
        self._changing = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self._refused = Refused(clock)
        # What was last told of an alias that could not be followed.
        self._told: dict[ModelConfig, str] = {}

    def open(self, placer: Placer) -> None:
        """Starts replicas by `placer` from now on; before, nothing can be loaded."""
        self._placer = placer

    async def load(self, wanted: ModelConfig) -> ServedModel:
        """Serves what a reference means now, in place of what it meant before.

        Returns:
            Once its replicas are warm and it takes requests.

        Raises:
            ArtifactError: There is none, or it must not be trusted.
            ModelConfigError: This tree has no such architecture.
            StartError: Its replicas did not start. What was served before is served on.
        """
        model = await asyncio.to_thread(self._registry.find, wanted)
        async with self._changing:
            before = self._loaded.get(wanted)
            if before is not None and before.served.model.digest == model.digest:
                return before.served.model
            loaded = self._same(model) or await self._start(wanted, model)
            loaded.wanted_by.add(wanted)
            self._loaded[wanted] = loaded
            self._catalog.add(loaded.served, default=self._is_default(wanted, model.name))
            if before is not None:
                self._release(wanted, before)
        return model

    async def unload(self, name: str) -> None:
        """Serves no version of a name any more; what runs is answered.

        Raises:
            ServingError: NOT_FOUND.
        """
        self._catalog.find(name)
        async with self._changing:
            for wanted, loaded in list(self._loaded.items()):
                if loaded.served.model.name == name:
                    del self._loaded[wanted]
                    self._release(wanted, loaded)

    async def follow(self, period_s: float) -> None:
        """Looks again and again where aliases point, for ever, and loads what they point to.

        A version that cannot be loaded is told once, and what is served is served on. It is tried
        again after a while.
        """
        while True:
            await asyncio.sleep(period_s)
            for wanted in [wanted for wanted in self._loaded if is_followed(wanted)]:
                await self._follow(wanted)

    async def close(self) -> None:
        """Ends every replica."""
        async with self._changing:
            for loaded in set(self._loaded.values()):
                await loaded.placed.remove()
            self._loaded.clear()
        await asyncio.gather(*self._leaving)

    def wanted(self) -> Sequence[ModelConfig]:
        """All that is loaded."""
        return list(self._loaded)

    async def _follow(self, wanted: ModelConfig) -> None:
        digest = ""
        try:
            digest = await asyncio.to_thread(self._registry.digest, wanted)
            loaded = self._loaded.get(wanted)
            if loaded is None or not self._refused.may_try(wanted, digest):
                return
            if digest != loaded.served.model.digest:
                model = await self.load(wanted)
                self._observer.event("alias_followed", reference=wanted.reference, to=model.version)
        except Exception as error:  # whatever a registry or a model does, what is served is served
            if digest:
                self._refused.failed(wanted, digest, error)
            why = str(error)
            if self._told.get(wanted) != why:
                self._told[wanted] = why
                self._observer.event("alias_not_followed", reference=wanted.reference, why=why)
        else:
            self._refused.forget(wanted)
            self._told.pop(wanted, None)

    async def _start(self, wanted: ModelConfig, model: ServedModel) -> _Loaded:
        """Starts a version. It is in the catalog meanwhile only if nothing else has its name."""
        if self._placer is None:
            raise StartError("the gateway is still starting; try again")
        placed = await self._placer.place(model, wanted)
        served = Served(
            model, placed.channels, Batcher(model, placed.channels, wanted), wanted.replicas
        )
        is_first = model.name not in self._catalog.names()
        if is_first:
            self._catalog.add(served, default=True)
        started = time.monotonic()
        try:
            await placed.ready()
        except BaseException:
            if is_first:
                self._catalog.remove(served)
            await placed.remove()
            raise
        took_s = round(time.monotonic() - started, 3)
        self._observer.event("model_ready", model=model.name, version=model.version, took_s=took_s)
        return _Loaded(served, placed)

    def _same(self, model: ServedModel) -> _Loaded | None:
        """What is loaded already by another reference to the same version."""
        for loaded in self._loaded.values():
            if (loaded.served.model.name, loaded.served.model.digest) == (model.name, model.digest):
                return loaded
        return None

    def _is_default(self, wanted: ModelConfig, name: str) -> bool:
        """Of a name, the reference that was given first is what it means without a version."""
        of_name = [w for w, loaded in self._loaded.items() if loaded.served.model.name == name]
        return not of_name or of_name[0] == wanted

    def _release(self, wanted: ModelConfig, loaded: _Loaded) -> None:
        """A reference wants something else now; what nobody wants leaves."""
        loaded.wanted_by.discard(wanted)
        if not loaded.wanted_by:
            loaded.served.leaving = True
            self._catalog.remove(loaded.served)
            task = asyncio.create_task(self._leave(loaded))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _leave(self, loaded: _Loaded) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(loaded.served.batcher.idle(), self._drain_s)
        await loaded.placed.remove()
        model = loaded.served.model
        self._observer.event("model_unloaded", model=model.name, version=model.version)


class ModelControl:
    """Loads and unloads at the wish of clients, where --allow-model-control says that they may.

    Args:
        fleet: What is loaded.
        options: Of a model that nobody has configured, by its reference.
    """

    def __init__(self, fleet: Fleet, options: Callable[[str], ModelConfig]) -> None:
        self._fleet = fleet
        self._options = options

    async def load(self, name: str) -> None:
        """Serves a model of the registry, or looks again what its reference means.

        Args:
            name: One that is served, or a reference in the registry; never a path.

        Raises:
            ServingError: INVALID: no such reference; UNAVAILABLE: it could not be started.
        """
        if "/" in name or "\\" in name or name.startswith("."):
            raise ServingError(Kind.INVALID, f"{quote(name)} is no name of a model")
        of_name = [
            wanted for wanted in self._fleet.wanted() if name in (wanted.name, _stem(wanted))
        ]
        try:
            for wanted in of_name or [self._options(name)]:
                await self._fleet.load(wanted)
        except (ArtifactError, ModelConfigError, ValueError) as error:
            raise ServingError(Kind.INVALID, str(error)) from error
        except StartError as error:
            raise ServingError(Kind.UNAVAILABLE, str(error)) from error

    async def unload(self, name: str) -> None:
        """Serves a model no more.

        Raises:
            ServingError: NOT_FOUND.
        """
        await self._fleet.unload(name)


def is_followed(wanted: ModelConfig) -> bool:
    """Whether what it means can change: an alias moves, a version never does."""
    return "@" in wanted.reference and not is_path(wanted.reference)


def _stem(wanted: ModelConfig) -> str:
    """The model's name in a reference."""
    return wanted.reference.partition("@")[0].partition(":")[0]
