"""What a configuration means, computed once in numpy so that both frameworks get equal numbers."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from base.seeds import stream
from data.augment.chain import draw
from data.dataset import Split
from data.loader import WHOLE, Loader
from models.context import Context
from optim.schedule import (
    warmup_cosine,
    warmup_cosine_restarts,
    warmup_polynomial,
    warmup_stable_decay,
)
from train.checkpoint.course import Course
from train.config.schema import MAX_STEPS, ConfigError, TrainConfig
from train.tasks.table import TASKS

# Of a run that nothing has turned.
_STRAIGHT = Course()


class StepScalars(NamedTuple):
    """The numbers of a step that change from step to step, float32.

    Attributes:
        learning_rate: Of the update.
        dropout_scale: Factor of all rates of dropout.
        stochastic_depth_scale: Factor of all rates of stochastic depth.
        weight_decay_scale: Factor of the optimizer's weight decay.
        loss_limit: Greatest loss of a step that is not skipped, where steps may be.
        average_rate: How far the moving average of weights moves to them.
    """

    learning_rate: np.float32
    dropout_scale: np.float32
    stochastic_depth_scale: np.float32
    weight_decay_scale: np.float32
    loss_limit: np.float32
    average_rate: np.float32


class Batch(NamedTuple):
    """A rank's share of what a step learns from, the examples in front.

    Attributes:
        inputs: What the model is given.
        targets: What it is to answer.
        noise: What targets are sampled with, in steps whose optimizer wants curvature.
        seeds: `[batch]` int32, of what networks draw at random for each example.
    """

    inputs: np.ndarray
    targets: np.ndarray
    noise: np.ndarray | None
    seeds: np.ndarray


def training_batches(config: TrainConfig, split: Split, rows: np.ndarray | None = None) -> Loader:
    """Returns the run's batches over `split`, or over some of its rows."""
    augment = config.data.augment
    return Loader(
        split,
        batch_size=config.data.global_batch_size,
        seed=config.run.seed,
        rows=rows,
        augment=None if augment is None else partial(draw, augment),
        mixup=config.data.mixup,
        pad_to_multiple_of=config.data.pad_to_multiple_of,
        group_by_length=config.data.group_by_length,
    )


def batch_of(
    config: TrainConfig, loader: Loader, step: int, share: slice = WHOLE, *, shift: int = 0
) -> Batch:
    """Returns a share of the batch of a step, counted from 0, with all that the step needs.

    Args:
        config: The run.
        loader: Its data.
        step: Which.
        share: Of the batch.
        shift: Batches that were passed over before, by runs that were rolled back.
    """
    number = step + shift
    inputs, targets = loader.batch(number, share)
    noise = None
    if config.optimizer.algorithm.wants_curvature(step):
        # Drawn for the whole batch, so that a share's does not depend on the number of ranks.
        rng = stream(config.run.seed, "label noise", number)
        signature, size = config.model.signature, config.data.global_batch_size
        noise = TASKS[config.task].noise(signature, size, rng)[share]
        if targets.ndim > 1:  # of so many positions as the batch was cut to
            noise = noise[:, : targets.shape[1]]
    return Batch(inputs, targets, noise, _seeds(config, number)[share])


def _seeds(config: TrainConfig, number: int) -> np.ndarray:
    bits = stream(config.run.seed, "dropout", number)
    return bits.integers(0, 2**32, config.data.global_batch_size, np.uint32).view(np.int32)


def num_steps_of(config: TrainConfig, num_examples: int) -> int:
    """Returns the number of optimizer updates in a run over so many training examples.

    As many as it takes for every example to have come `run.num_epochs` times; the last batch may
    begin the next epoch.

    Raises:
        ConfigError: These are too many, or fewer than the rest of it needs.
    """
    run, batch_size = config.run, config.data.global_batch_size
    if run.num_steps is not None:
        return run.num_steps
    assert run.num_epochs is not None  # by its validator
    num_steps = -(-run.num_epochs * num_examples // batch_size)
    name = f"the steps of run.num_epochs {run.num_epochs} of {num_examples:,} examples"
    if num_steps > MAX_STEPS:
        raise ConfigError(f"run.num_epochs: expected at most {MAX_STEPS:,} steps, got {name}")
    config.check_length(num_steps, name)
    return num_steps


def evaluation_interval(config: TrainConfig, num_examples: int) -> int | None:
    """Returns the number of updates from one evaluation to the next; None: there is none before.

    Args:
        config: The run.
        num_examples: That it learns from.
    """
    every_steps = config.evaluation.every_steps
    if every_steps is None and config.judges_evaluations:
        return -(-num_examples // config.data.global_batch_size)
    return every_steps


def unjudged(config: TrainConfig, num_examples: int, num_steps: int) -> str | None:
    """Returns why nothing judges the run that was to, for its user; None: it is judged.

    Args:
        config: The run.
        num_examples: That it learns from.
        num_steps: Updates in the whole run.
    """
    interval = evaluation_interval(config, num_examples)
    if not config.judges_evaluations or interval is None or interval <= num_steps:
        return None
    return (
        f"nothing is judged on the way, as early stopping, a plateau or keep_best would: from one "
        f"evaluation to the next there are {interval:,} steps, and the run has {num_steps:,}; set "
        "evaluation.every_steps"
    )


class ScalarsOf(Protocol):
    """Gives the numbers of a step, counted from 0."""

    def __call__(self, step: int, course: Course = ...) -> StepScalars: ...


def step_scalars(config: TrainConfig, num_steps: int) -> ScalarsOf:
    """Returns what gives the numbers of a step, counted from 0, in a run of so many."""
    rate, factors = _schedule(config, num_steps), config.regularization

    def at(step: int, course: Course = _STRAIGHT) -> StepScalars:
        limit = np.inf if course.loss_limit is None else course.loss_limit
        return StepScalars(
            learning_rate=np.float32(rate(step) * course.learning_rate_scale),
            loss_limit=np.float32(limit),
            dropout_scale=np.float32(factors.dropout.at(step, num_steps)),
            stochastic_depth_scale=np.float32(factors.stochastic_depth.at(step, num_steps)),
            weight_decay_scale=np.float32(factors.weight_decay.at(step, num_steps)),
            average_rate=np.float32(config.ema.rate(step)),
        )

    return at


def context_of(config: TrainConfig, seeds: Any, scalars: StepScalars) -> Context:
    """Returns what networks are given beside their input in a step of training.

    Args:
        config: The run.
        seeds: `[batch]`, in a framework's own array.
        scalars: Of the step; in JAX they may be traced.
    """
    return Context(
        train=True,
        seeds=seeds,
        dropout_scale=scalars.dropout_scale,
        stochastic_depth_scale=scalars.stochastic_depth_scale,
        dtype=config.precision.compute_dtype,
        checkpointing=config.memory.checkpointing,
    )


def _schedule(config: TrainConfig, num_steps: int) -> Callable[[int], float]:
    schedule = config.schedule
    settings: dict[str, Any] = {
        "peak": config.optimizer.algorithm.learning_rate,
        "num_steps": num_steps,
        "warmup_steps": schedule.warmup_steps,
        "final_fraction": schedule.final_fraction,
    }
    match schedule.kind:
        case "warmup_cosine":
            return partial(warmup_cosine, **settings)
        case "warmup_cosine_restarts":
            return partial(
                warmup_cosine_restarts,
                **settings,
                num_restarts=schedule.num_restarts,
                growth=schedule.cycle_growth,
            )
        case "warmup_linear":
            return partial(warmup_polynomial, **settings)
        case "warmup_polynomial":
            return partial(warmup_polynomial, **settings, power=schedule.power)
        case "warmup_stable_decay":
            falling = schedule.decay_fraction * (num_steps - schedule.warmup_steps)
            return partial(warmup_stable_decay, **settings, decay_steps=max(1, round(falling)))
