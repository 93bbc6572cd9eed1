"""The section `callbacks`: who hears of a run besides its user, and may change its course.

Each of them is a file of `train/callbacks`, and off unless its first key says otherwise.
"""

from typing import Literal

from pydantic import Field

from base.config import MAX_INTEGER, Section


class EarlyStoppingConfig(Section):
    """Ends a run that no longer gets better; see `train.callbacks.early_stopping`."""

    patience: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTEGER,
        description="evaluations without an improvement after which the run ends; null: it goes on",
    )
    metric: str | None = Field(
        default=None, description="which is to improve; null: the task's first metric"
    )
    mode: Literal["min", "max"] | None = Field(
        default=None, description="whether less or more is better; null: as the task says"
    )
    min_delta: float = Field(default=0.0, ge=0, description="less than this is no improvement")
    restore_best: bool = Field(
        default=True, description="publish the best model that was evaluated, and not the last"
    )


class ReduceOnPlateauConfig(Section):
    """Lowers the learning rate when a metric stands still; see `train.callbacks.plateau`."""

    patience: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTEGER,
        description="evaluations without an improvement after which it is lowered; null: never",
    )
    metric: str | None = Field(
        default=None, description="which is to improve; null: the task's first metric"
    )
    mode: Literal["min", "max"] | None = Field(
        default=None, description="whether less or more is better; null: as the task says"
    )
    min_delta: float = Field(default=0.0, ge=0, description="less than this is no improvement")
    factor: float = Field(default=0.1, gt=0, lt=1, description="by which the rate is multiplied")
    cooldown: int = Field(
        default=0,
        ge=0,
        le=MAX_INTEGER,
        description="evaluations after it was lowered that do not count",
    )
    min_scale: float = Field(
        default=0.0, ge=0, le=1, description="of the schedule's rate; it is not lowered below"
    )


class CallbacksConfig(Section):
    """Who hears of a run besides its user, in the order in which they do."""

    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    reduce_on_plateau: ReduceOnPlateauConfig = ReduceOnPlateauConfig()
