"""What a training run tells the outside, and to whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class StepReport:
    """How training went since the report before.

    Attributes:
        step: Optimizer updates applied so far.
        num_steps: Updates in the whole run.
        loss: Mean training loss, in nats.
        accuracy: Share of (augmented) training images classified correctly.
        learning_rate: Of the latest update.
        images_per_s: Throughput, in images a second.
        clipped_fraction: Of the weights, those that the latest update clipped; None unless the
            optimizer is Sophia, which is at its best between 0.5 and 0.9.
    """

    step: int
    num_steps: int
    loss: float
    accuracy: float
    learning_rate: float
    images_per_s: float
    clipped_fraction: float | None = None


@dataclass(frozen=True)
class CommunicationReport:
    """What ranks sent each other of the gradients they compressed.

    Attributes:
        bytes_per_step: What one rank sent, on average over the steps, in bytes.
        ratio: To the bytes that float32 would have taken.
        description: How the gradients were sent, for a human.
    """

    bytes_per_step: float
    ratio: float
    description: str


class Callback(Protocol):
    """Hears of a run's progress; it cannot change the run."""

    def on_step(self, report: StepReport) -> None:
        """Called every `run.log_every_steps` steps and after the last one."""

    def on_evaluation(self, metrics: Mapping[str, float]) -> None:
        """Called once, after training, with the metrics on the held-out data."""

    def on_communication(self, report: CommunicationReport) -> None:
        """Called once, after the evaluation, if ranks exchanged compressed gradients."""
