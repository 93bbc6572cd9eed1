"""Evaluates the model of a run, and writes down what it finds."""

from dataclasses import dataclass
from pathlib import Path

from data.dataset import Split
from models.weights import Weights
from train.backends.backend import Backend
from train.callbacks.callbacks import Callbacks
from train.config.schema import TrainConfig
from train.evaluation import Evaluation, evaluate
from train.evaluation_files import write_evaluation
from train.events import Warned
from train.tasks.table import TASKS


@dataclass(frozen=True)
class Evaluator:
    """Of one run, on its first rank.

    Attributes:
        config: The run.
        backend: Gives the function that will serve the model.
        split: The held-out data.
        directory: Of the run's evaluations.
        callbacks: Told if an evaluation cannot be written, which is no reason to end a run.
    """

    config: TrainConfig
    backend: Backend
    split: Split
    directory: Path
    callbacks: Callbacks

    def evaluate(self, weights: Weights) -> Evaluation:
        """Measures weights."""
        config = self.config
        return evaluate(
            TASKS[config.task],
            self.backend.predict_fn(weights),
            self.split,
            config.data.describe(),
            config.evaluation.batch_size,
        )

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
                class_names=self.config.data.describe().class_names,
                with_picture=is_final,
            )
        except OSError as error:
            text = f"the evaluation after {step:,} steps could not be written: {error}"
            self.callbacks.tell(Warned(text))
