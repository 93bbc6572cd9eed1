"""What the loop asks of a framework."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol, SupportsFloat, TypeVar

import numpy as np

from comm.wire import Wire
from models.network import Framework, Predict
from models.weights import Weights
from train.events import PeakMemory
from train.recipe import Batch, StepScalars

Value = TypeVar("Value")


class StepResult(NamedTuple):
    """Scalars of one step, still on the device: means over this rank's share of the batch.

    Attributes:
        loss: In nats.
        metrics: What the task measures.
    """

    loss: SupportsFloat
    metrics: Mapping[str, SupportsFloat]


class Backend(Protocol):
    """One framework at work on one run, as one of its ranks.

    A rank is a process that gets a share of each batch. It knows nothing of callbacks, and of files
    only those of its framework's own checkpoints.

    Attributes:
        framework: Which.
        libraries: Distributions whose versions are worth recording.
        rank: The first, 0, reports and publishes.
        world_size: How many there are; of Flax, devices, which one process has.
        share: This rank's part of a batch.
    """

    framework: Framework
    libraries: tuple[str, ...]
    rank: int
    world_size: int
    share: slice

    @property
    def device(self) -> str:
        """What computes, for a human."""

    @property
    def num_threads(self) -> int:
        """With how many threads a rank computes on the CPU."""

    def start(self, weights: Weights) -> None:
        """Gets ready to train from these weights; collective."""

    def step(self, batch: Batch, scalars: StepScalars) -> StepResult:
        """Updates the weights once, from this rank's share of a batch; collective."""

    def fractions(self) -> Mapping[str, SupportsFloat]:
        """Returns what the optimizer has to say of the latest step, see `Stepped.fractions`."""

    def mean_over_ranks(self, values: np.ndarray) -> np.ndarray:
        """Returns the mean of every rank's float64 `values`, the same on all; collective."""

    def of_first_rank(self, value: int) -> int:
        """Returns what the first rank gave, an integer of 64 bits; collective."""

    def object_of_first_rank(self, value: Value) -> Value:
        """Returns what the first rank gave, which can be pickled; collective."""

    def save(self, directory: Path) -> Callable[[], None]:
        """Copies all that later steps depend on, and returns what writes it to `directory`.

        Collective, and so is what is returned, which another thread may call while this one goes
        on; it ends, or raises, on all ranks together.

        Args:
            directory: Not there yet, nor the one above it.
        """

    def load(self, directory: Path) -> None:
        """Replaces the state after `start` by what `save` wrote; collective."""

    def weights(self) -> Weights:
        """Returns a copy of the weights to evaluate and publish, whole; collective.

        They are the moving average, if the run keeps one.
        """

    def digests(self) -> list[str]:
        """Returns of each rank the SHA-256, in hex, of its copy of the weights; collective.

        Not where each has a part of them alone.
        """

    def wait(self) -> None:
        """Returns when the device has made all steps that it was given."""

    def peak_memory(self) -> PeakMemory:
        """Returns what all ranks took at the most so far; collective."""

    def trace(self, directory: Path) -> AbstractContextManager[None]:
        """Traces what this rank does in the block, by the framework's own profiler.

        Args:
            directory: Where the trace is, once the block has ended.
        """

    def predict_fn(self, weights: Weights) -> Predict:
        """Returns the function that will serve a model of these weights."""

    def sent(self, num_steps: int) -> Wire | None:
        """Returns what a rank sent in so many steps since `start`; None unless it compresses."""
