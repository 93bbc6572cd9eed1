"""The section that says when a model is evaluated."""

from pydantic import Field

from base.config import MAX_INTEGER, Section


class EvaluationConfig(Section):
    """When a model is evaluated on the held-out data; at the end of its run it always is."""

    every_steps: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTEGER,
        description="optimizer updates from one evaluation to the next; null: as many as show "
        "every example once, if something judges evaluations, and otherwise only at the end",
    )
    validation_fraction: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of the training examples that are not learnt, but measured on the way; "
        "null: on the way, too, the held-out ones are",
    )
    batch_size: int = Field(
        default=256, ge=1, le=MAX_INTEGER, description="examples that are predicted at once"
    )
