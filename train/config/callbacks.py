"""The section `callbacks`: who hears of a run besides its user, and may change its course.

Each of them is a file of `train/callbacks`, and off unless its first key says otherwise.
"""

from typing import Literal

from pydantic import Field

from base.config import MAX_INTEGER, Section

# Losses wait on the device until they are looked at.
MAX_LOG_EVERY_STEPS = 100_000


# What is done about a step that goes wrong.
Policy = Literal["stop", "skip", "roll_back"]


class WatchConfig(Section):
    """Looks at the loss of every step; see `train.callbacks.watch`.

    What is not looked at in time is looked at before a report, an evaluation or a save.
    """

    on_non_finite: Policy = Field(
        default="stop",
        description="what is done about a loss, or gradients, that are infinite or no numbers: the "
        "run ends; the update is skipped; or it goes back to the newest checkpoint, and on from "
        "there with other data",
    )
    on_spike: Policy | None = Field(
        default=None, description="what is done about a loss above the limit; null: nothing"
    )
    spike_deviations: float = Field(
        default=6.0,
        gt=0,
        description="the limit is the median of the losses in the window, and so many standard "
        "deviations, which are estimated from their median absolute deviation",
    )
    window_steps: int = Field(
        default=100,
        ge=2,
        le=MAX_LOG_EVERY_STEPS,
        description="of losses by which others are judged; the limit moves after each window",
    )
    max_incidents: int = Field(
        default=10,
        ge=1,
        le=MAX_INTEGER,
        description="steps skipped in a row, or times rolled back, after which the run ends",
    )
    gradient_norm: bool = Field(
        default=False, description="report the norm of the gradients, before they are clipped"
    )
    compare_ranks_every_steps: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTEGER,
        description="steps from one comparison of all ranks' weights to the next; null: none",
    )

    hang_timeout_s: float | None = Field(
        default=None,
        ge=5,
        description="of several ranks of //train:torch: how long none may come any further, in "
        "seconds, before the run ends and names the rank for which the others wait; longer than a "
        "save takes; null: forever",
    )

    @property
    def skips(self) -> bool:
        """Whether an update may be skipped for what it would have been made from."""
        return "skip" in (self.on_non_finite, self.on_spike)


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


class MetricsConfig(Section):
    """Where what a run tells is written down; all of it in its directory, but for Prometheus."""

    json_lines: bool = Field(
        default=True, description="all that is told, one JSON object a line, in metrics.jsonl"
    )
    tensorboard: bool = Field(
        default=True, description="curves as TensorBoard reads them, in tensorboard/"
    )
    prometheus_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="of a page that Prometheus scrapes; 0: any that is free, and it is told; null: "
        "there is none",
    )
    prometheus_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="address of this machine whose port it is; 0.0.0.0: all it has",
    )


class ResourcesConfig(Section):
    """What the run's processes use of this machine; see `train.callbacks.resources`."""

    every_s: float | None = Field(
        default=None,
        ge=0.01,
        description="seconds from one look to the next, of which each report has one record; null: "
        "none is made",
    )


class ProfilerConfig(Section):
    """Traces a window of steps; see `train.callbacks.profiler`."""

    first_step: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTEGER,
        description="the first that is traced, counted from 1; null: none is",
    )
    num_steps: int = Field(default=5, ge=1, le=1000, description="steps that are traced")


class CallbacksConfig(Section):
    """Who hears of a run besides its user, in the order in which they do."""

    watch: WatchConfig = WatchConfig()
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    reduce_on_plateau: ReduceOnPlateauConfig = ReduceOnPlateauConfig()
    profiler: ProfilerConfig = ProfilerConfig()
    resources: ResourcesConfig = ResourcesConfig()
    metrics: MetricsConfig = MetricsConfig()
