"""What a run tells while it goes on, and what those who hear it may answer."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True)
class Stepped:
    """How training went since the report before; told every `run.log_every_steps` steps.

    Attributes:
        step: Optimizer updates applied so far.
        num_steps: Updates in the whole run.
        loss: Mean training loss, in nats.
        metrics: Means of what the task measures on training examples, such as `accuracy`.
        learning_rate: Of the latest update.
        examples_per_s: Throughput, in examples a second.
        unit: What an example is called, in the plural, such as "images".
        fractions: Of the weights, those that have a mark of the latest update, such as "clipped";
            see `optim.algorithm.Algorithm.marks`.
    """

    step: int
    num_steps: int
    loss: float
    metrics: Mapping[str, float]
    learning_rate: float
    examples_per_s: float
    unit: str
    fractions: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stopped:
    """A callback's answer ended training; told once, before the evaluation."""

    step: int
    num_steps: int
    reason: str


@dataclass(frozen=True)
class Evaluated:
    """The metrics of the trained model on the held-out data; told once."""

    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Communicated:
    """What ranks sent each other of the gradients they compressed; told once, at the end.

    Attributes:
        bytes_per_step: What one rank sent, on average over the steps, in bytes.
        ratio: To the bytes that float32 would have taken.
        description: How the gradients were sent, for a human.
    """

    bytes_per_step: float
    ratio: float
    description: str


@dataclass(frozen=True)
class Resumed:
    """A run goes on from a checkpoint, or begins from another model's weights.

    Attributes:
        step: Optimizer updates that had been made.
        description: From what, for a human.
    """

    step: int
    description: str


@dataclass(frozen=True)
class Warned:
    """Something is not as it was left, such as a checkpoint that was damaged.

    Attributes:
        message: What, and what was done about it; for a human.
    """

    message: str


@dataclass(frozen=True)
class Saved:
    """A checkpoint is whole and on the disk."""

    step: int
    directory: Path


@dataclass(frozen=True)
class SaveFailed:
    """A checkpoint could not be written; those before it are as they were."""

    step: int
    reason: str


Event: TypeAlias = (
    Stepped | Stopped | Evaluated | Communicated | Resumed | Warned | Saved | SaveFailed
)


@dataclass(frozen=True)
class Stop:
    """An answer to `Stepped`: train no further; evaluate and publish what there is.

    Attributes:
        reason: For a human.
    """

    reason: str


Action: TypeAlias = Stop

# Hears every event of a run, on its first rank, and may answer.
Callback: TypeAlias = Callable[[Event], Action | None]


def tell(callbacks: Iterable[Callback], event: Event) -> Action | None:
    """Tells all of them, in their order, and returns the first answer.

    Raises:
        TypeError: An answer is no action.
    """
    answers = [(callback, callback(event)) for callback in callbacks]
    for callback, answer in answers:
        if not isinstance(answer, Action | None):
            raise TypeError(f"{callback!r} answered {answer!r}; expected None or Stop(reason)")
    return next((answer for _, answer in answers if answer is not None), None)
