"""The section that says when a model is evaluated."""

from pydantic import Field

from base.config import MAX_INTEGER, Section


class EvaluationConfig(Section):
    """When a model is evaluated on the held-out data; at the end of its run it always is."""

    every_steps: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTEGER,
        description="optimizer updates from one evaluation to the next; null: only at the end",
    )
    batch_size: int = Field(
        default=256, ge=1, le=MAX_INTEGER, description="examples that are predicted at once"
    )
