"""The callbacks that a configuration asks for, in the order in which they hear of each event.

Those that judge a run come first: what a later one writes down or shows has been judged already.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal

from train.callbacks.best_checkpoints import BestCheckpoints
from train.callbacks.early_stopping import EarlyStopping
from train.callbacks.improvement import Improvement
from train.callbacks.json_lines import JsonLines
from train.callbacks.plateau import ReduceOnPlateau
from train.callbacks.process_tree import root_of_run
from train.callbacks.profiler import Profiler
from train.callbacks.recorder import Recorder
from train.callbacks.resources import ResourceSampler
from train.callbacks.surroundings import Surroundings
from train.callbacks.watch import Watch
from train.checkpoint.run_directory import METRICS, PROFILE, TENSORBOARD
from train.config.schema import TrainConfig
from train.events import Callback
from train.meter import advice
from train.tasks.table import TASKS


def callbacks_of(config: TrainConfig, surroundings: Surroundings) -> dict[str, Callback]:
    """Returns the callbacks of a run by name; for its first rank.

    Args:
        config: The run.
        surroundings: What they may use.

    Raises:
        ConfigError: Something that one of them needs cannot be had, such as a port.
    """
    return {**judges_of(config), **recorders_of(config, surroundings)}


def judges_of(config: TrainConfig) -> dict[str, Callback]:
    """Returns those that may change the course of a run, by name."""
    task, sections = TASKS[config.task], config.callbacks
    directions = task.directions(config.data.describe())
    scales_loss = config.precision.scales_loss
    made: dict[str, Callback] = {
        "watch": Watch(sections.watch, scales_loss=scales_loss, advice=advice(config))
    }

    def improvement(
        metric: str, mode: Literal["min", "max"] | None, min_delta: float
    ) -> Improvement:
        return Improvement(mode or directions[metric], min_delta)

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
        made["best_checkpoints"] = BestCheckpoints(num_kept, metric, directions[metric])
    return made


def recorders_of(config: TrainConfig, surroundings: Surroundings) -> dict[str, Callback]:
    """Returns those that write down what is told, by name; what they need is imported here.

    Raises:
        ConfigError: As of `callbacks_of`.
    """
    section, directory = config.callbacks.metrics, surroundings.directory
    made: dict[str, Callback] = {}
    if (profiler := config.callbacks.profiler).first_step is not None:
        made["profiler"] = Profiler(
            profiler.first_step, profiler.num_steps, directory / PROFILE, surroundings
        )
    if (every_s := config.callbacks.resources.every_s) is not None:
        made["resources"] = ResourceSampler(every_s, root_of_run())
    if section.json_lines:
        made["json_lines"] = Recorder(JsonLines(directory / METRICS), METRICS)
    if section.tensorboard:
        from train.callbacks.event_files import EventFiles

        made["tensorboard"] = Recorder(EventFiles(directory / TENSORBOARD), TENSORBOARD)
    if section.prometheus_port is not None:
        from train.callbacks.prometheus_page import PrometheusPage

        about = {
            "framework": surroundings.backend.framework,
            "artifact": config.artifact.name,
            "version": config.artifact.version,
            "task": config.task,
            "architecture": config.model.architecture,
        }
        made["prometheus"] = PrometheusPage(
            section.prometheus_host, section.prometheus_port, about, config.data.global_batch_size
        )
    return made


def score_of(config: TrainConfig) -> Callable[[Mapping[str, float]], float | None]:
    """Returns what says of metrics how good they are, by what `checkpoint` compares.

    More is better; None: nothing can be said, as the metric is missing or no number.
    """
    task = TASKS[config.task]
    metric = config.checkpoint.keep_best_metric or task.primary
    sign = 1 if task.directions(config.data.describe())[metric] == "max" else -1

    def score(metrics: Mapping[str, float]) -> float | None:
        value = metrics.get(metric, math.nan)
        return None if math.isnan(value) else sign * value

    return score
