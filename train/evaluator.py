"""Evaluates the model of a run, and writes down what it finds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.dataset import Dataset
from models.weights import Weights
from train.backends.backend import Backend
from train.callbacks.callbacks import Callbacks
from train.config.schema import TrainConfig
from train.evaluation import Evaluation, evaluate
from train.evaluation_files import HELD_OUT, VALIDATION, write_evaluation
from train.events import Warned
from train.tasks.table import TASKS


@dataclass(frozen=True)
class Evaluator:
    """Of one run, on its first rank.

    Attributes:
        config: The run.
        backend: Gives the function that will serve the model.
        data: Of the run.
        validation: Which of the training examples are measured on the way; None: the test ones are.
        directory: Of the run's evaluations.
        callbacks: Told if an evaluation cannot be written, which is no reason to end a run.
    """

    config: TrainConfig
    backend: Backend
    data: Dataset
    validation: np.ndarray | None
    directory: Path
    callbacks: Callbacks

    def evaluate(self, weights: Weights, *, is_final: bool) -> Evaluation:
        """Measures weights.

        Args:
            weights: Which.
            is_final: Whether they will be published, so that nothing is chosen by what is found.
        """
        config = self.config
        is_test = self.measured_on(is_final=is_final) == HELD_OUT
        return evaluate(
            TASKS[config.task],
            self.backend.predict_fn(weights),
            self.data.test if is_test else self.data.train,
            config.data.describe(),
            config.evaluation.batch_size,
            None if is_test else self.validation,
        )

    def measured_on(self, *, is_final: bool) -> str:
        """Returns what the examples are that `evaluate` measures on."""
        return HELD_OUT if is_final or self.validation is None else VALIDATION

    def write(self, evaluation: Evaluation, step: int, *, is_final: bool) -> None:
        """Writes an evaluation down.

        Args:
            evaluation: Of the model.
            step: Updates that it has had.
            is_final: Whether it will be published; of others there is no picture.
        """
        try:
            write_evaluation(
                self.directory,
                step,
                evaluation,
                weights="latest" if self.config.ema.decay is None else "moving average",
                measured_on=self.measured_on(is_final=is_final),
                class_names=self.config.data.describe().class_names,
                with_picture=is_final,
            )
        except OSError as error:
            text = f"the evaluation after {step:,} steps could not be written: {error}"
            self.callbacks.tell(Warned(text))
