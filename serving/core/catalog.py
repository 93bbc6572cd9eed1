"""Which models are served, in which versions, and which of them can answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from serving.core.batcher import Batcher
from serving.core.channel import Channels
from serving.core.errors import Kind, ServingError, quote
from serving.core.model import ServedModel


class State(StrEnum):
    """Of one version of a model, in the words of Triton's repository index."""

    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"
    UNLOADING = "UNLOADING"


class ModelState(NamedTuple):
    """One version of a model, and whether it answers.

    Attributes:
        model: which.
        state: READY exactly if a request would be computed now.
        reason: why it is not READY, or "".
    """

    model: ServedModel
    state: State
    reason: str


@dataclass(eq=False)
class Served:
    """One version of a model with all that serves it.

    Attributes:
        model: what is known of it.
        channels: its replicas.
        batcher: the way of requests to them.
        replicas: how many there should be.
        leaving: it is drained, and takes no more requests.
    """

    model: ServedModel
    channels: Channels
    batcher: Batcher
    replicas: int = 1
    leaving: bool = False

    def state(self) -> ModelState:
        """Whether it answers. The truth of this moment: it asks the connections."""
        if self.leaving:
            return ModelState(self.model, State.UNLOADING, "it is being unloaded")
        if self.channels.connected:
            return ModelState(self.model, State.READY, "")
        state = State.LOADING if self.channels.is_starting else State.UNAVAILABLE
        return ModelState(self.model, state, self.channels.why_empty())


class Catalog:
    """The versions that are served, by name.

    Names and versions are compared as they are: there is no path and no pattern in them.
    """

    def __init__(self) -> None:
        # Of each name, the one that a request without a version means comes first.
        self._by_name: dict[str, list[Served]] = {}
        self._by_version: dict[tuple[str, str], Served] = {}
        self._defaults: dict[str, Served] = {}
        self._changed: list[Callable[[], None]] = []

    def add(self, served: Served, *, default: bool) -> None:
        """Serves a version from now on.

        Args:
            served: Which. If the same version is served already, this one takes its place.
            default: A request that names no version means this one.
        """
        model = served.model
        versions = self._by_name.setdefault(model.name, [])
        if served not in versions:
            served.channels.subscribe(self.notify)
        versions[:] = [other for other in versions if other.model.version != model.version]
        versions.insert(0 if default else len(versions), served)
        self._index()

    def remove(self, served: Served) -> None:
        """Serves it no more. What runs goes on."""
        versions = self._by_name.get(served.model.name, [])
        if served in versions:
            versions.remove(served)
        if not versions:
            self._by_name.pop(served.model.name, None)
        self._index()

    def find(self, name: str, version: str = "") -> Served:
        """The version that a request means.

        Raises:
            ServingError: NOT_FOUND; the message says what there is.
        """
        served = self._by_version.get((name, version)) if version else self._defaults.get(name)
        if served is None:
            raise ServingError(Kind.NOT_FOUND, self._unknown(name, version))
        return served

    def all(self) -> list[Served]:
        """Every version, by name; of each name the default one first."""
        return [served for versions in self._by_name.values() for served in versions]

    def names(self) -> Sequence[str]:
        """Every name, the first one that was added first."""
        return list(self._by_name)

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Has `changed` called after each change of what there is or answers.

        Returns:
            A function that ends that; called again, it does nothing.
        """
        self._changed.append(changed)

        def end() -> None:
            if changed in self._changed:
                self._changed.remove(changed)

        return end

    def notify(self) -> None:
        """Tells all who asked that something has changed."""
        for changed in list(self._changed):
            changed()

    def _index(self) -> None:
        self._by_version = {(s.model.name, s.model.version): s for s in self.all()}
        self._defaults = {name: versions[0] for name, versions in self._by_name.items()}
        self.notify()

    def _unknown(self, name: str, version: str) -> str:
        if name not in self._by_name:
            known = ", ".join(map(repr, self._by_name)) or "none yet"
            return f"unknown model {quote(name)}; served here: {known}"
        versions = ", ".join(repr(served.model.version) for served in self._by_name[name])
        return (
            f"unknown version {quote(version)} of {name!r}; "
            f"served here: {versions}, or leave it empty"
        )
