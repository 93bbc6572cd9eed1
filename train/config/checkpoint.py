"""The section that says when a run is saved, and which checkpoints are kept."""

from pydantic import Field

from base.config import MAX_INTEGER, Section


class CheckpointConfig(Section):
    """When a run is saved, beside its training, and which checkpoints stay; see `train.checkpoint`.

    A run that is asked to end is saved whatever this says.
    """

    every_steps: int | None = Field(
        default=1000,
        ge=1,
        le=MAX_INTEGER,
        description="optimizer updates from one checkpoint to the next; null: none while it runs",
    )
    keep_last: int = Field(default=2, ge=1, le=MAX_INTEGER, description="the newest that stay")
    keep_every_steps: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTEGER,
        description="checkpoints of its multiples stay for good; null: none do",
    )
    keep_best: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTEGER,
        description="of those that are evaluated, the best are saved, and so many stay; null: "
        "none do",
    )
    keep_best_metric: str | None = Field(
        default=None, description="what is best; null: the task's first metric"
    )
