"""The real engine over models that compute in its own event loop, for tests of protocols."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from serving.core.admission import Admission
from serving.core.batcher import Batcher
from serving.core.catalog import Catalog, Served
from serving.core.channel import Channel
from serving.core.engine import Engine
from serving.core.model import ServedModel
from serving.core.outcome import Outcome
from serving.replicas.compute import Compute
from serving.testing.held_channels import HeldChannels
from serving.testing.local_replica import InProcessChannel


@dataclass
class Recorder:
    """Keeps what the engine reports."""

    outcomes: list[Outcome] = field(default_factory=list)

    def done(self, outcome: Outcome) -> None:
        """A request is over."""
        self.outcomes.append(outcome)

    def event(self, name: str, **facts: object) -> None:
        """Does nothing."""


class LocalEngine:
    """An engine with models. It is made in the event loop that uses it.

    Args:
        models: Each with what it computes, or with a channel to its replica.
        max_requests: As of `Admission`.
        max_bytes: As of `Admission`.

    Attributes:
        engine: The engine.
        admission: What lets requests in.
        recorder: What it reported.
        channels: The replicas of each model by its name and version.
    """

    def __init__(
        self,
        models: Iterable[tuple[ServedModel, Compute | Channel]],
        *,
        max_requests: int = 1000,
        max_bytes: int = 2**30,
    ) -> None:
        self.admission = Admission(max_requests, max_bytes)
        self.recorder = Recorder()
        self.channels: dict[tuple[str, str], HeldChannels] = {}
        self._catalog = Catalog()
        self.engine = Engine(self._catalog, self.admission, self.recorder)
        for model, replica in models:
            self.serve(model, replica)

    def serve(self, model: ServedModel, replica: Compute | Channel) -> None:
        """Serves one more model, by default if it is the newest of its name."""
        channel = InProcessChannel(replica) if callable(replica) else replica
        channels = HeldChannels()
        channels.connected = [channel]
        self.channels[model.name, model.version] = channels
        self._catalog.add(Served(model, channels, Batcher(model, channels)), default=True)
