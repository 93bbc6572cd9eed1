"""What the loop asks of a framework."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, SupportsFloat

import numpy as np

from comm.wire import Wire
from models.network import Framework, Predict
from models.weights import Weights
from train.recipe import Batch, StepScalars


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

    A rank is a process that gets a share of each batch. It knows nothing of callbacks and files.

    Attributes:
        framework: Which.
        libraries: Distributions whose versions are worth recording.
        rank: The first, 0, reports and publishes.
        share: This rank's part of a batch.
    """

    framework: Framework
    libraries: tuple[str, ...]
    rank: int
    share: slice

    @property
    def device(self) -> str:
        """What computes, for a human."""

    def start(self, weights: Weights) -> None:
        """Gets ready to train from these weights; collective."""

    def step(self, batch: Batch, scalars: StepScalars) -> StepResult:
        """Updates the weights once, from this rank's share of a batch; collective."""

    def fractions(self) -> Mapping[str, SupportsFloat]:
        """Returns what the optimizer has to say of the latest step, see `Stepped.fractions`."""

    def mean_over_ranks(self, values: np.ndarray) -> np.ndarray:
        """Returns the mean of every rank's float64 `values`, the same on all; collective."""

    def weights(self) -> Weights:
        """Returns a copy of the weights, whole; collective."""

    def predict_fn(self, weights: Weights) -> Predict:
        """Returns the function that will serve a model of these weights."""

    def sent(self, num_steps: int) -> Wire | None:
        """Returns what a rank sent in so many steps; None unless gradients are compressed."""
