"""The callbacks that a configuration asks for, in the order in which they hear of each event.

Those that judge a run come first: what a later one writes down or shows has been judged already.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from train.callbacks.best_checkpoints import BestCheckpoints
from train.callbacks.early_stopping import EarlyStopping
from train.callbacks.improvement import Improvement
from train.callbacks.plateau import ReduceOnPlateau
from train.callbacks.watch import Watch
from train.config.schema import TrainConfig
from train.events import Callback
from train.meter import advice
from train.tasks.table import TASKS


def callbacks_of(config: TrainConfig) -> dict[str, Callback]:
    """Returns the callbacks of a run by name; for its first rank."""
    task, sections = TASKS[config.task], config.callbacks
    scales_loss = config.precision.scales_loss
    made: dict[str, Callback] = {
        "watch": Watch(sections.watch, scales_loss=scales_loss, advice=advice(config))
    }

    def improvement(
        metric: str, mode: Literal["min", "max"] | None, min_delta: float
    ) -> Improvement:
        return Improvement(mode or task.directions[metric], min_delta)

    if (plateau := sections.reduce_on_plateau).patience is not None:
        metric = plateau.metric or task.primary
        compared = improvement(metric, plateau.mode, plateau.min_delta)
        made["reduce_on_plateau"] = ReduceOnPlateau(plateau, metric, compared)
    if (stopping := sections.early_stopping).patience is not None:
        metric = stopping.metric or task.primary
        compared = improvement(metric, stopping.mode, stopping.min_delta)
        made["early_stopping"] = EarlyStopping(stopping, metric, compared)
    if (num_kept := config.checkpoint.keep_best) is not None:
        metric = config.checkpoint.keep_best_metric or task.primary
        made["best_checkpoints"] = BestCheckpoints(num_kept, metric, task.directions[metric])
    return made


def score_of(config: TrainConfig) -> Callable[[Mapping[str, float]], float | None]:
    """Returns what says of metrics how good they are, by what `checkpoint` compares; None: nothing.

    More is better.
    """
    task = TASKS[config.task]
    metric = config.checkpoint.keep_best_metric or task.primary
    sign = 1 if task.directions[metric] == "max" else -1
    return lambda metrics: sign * metrics[metric] if metric in metrics else None
