"""What the loop itself has to remember of a run besides its step."""

from pydantic import Field

from base.config import Section


class Course(Section):
    """How a run goes on from where it is; callbacks' answers change it.

    It is the same on all ranks, and every checkpoint has it.
    """

    next_batch: int = Field(
        default=0, ge=0, description="position in the data: which batch comes next"
    )
    learning_rate_scale: float = Field(
        default=1.0, ge=0, description="factor of the schedule's learning rate"
    )
    loss_limit: float | None = Field(
        default=None, description="loss of a step above which it is skipped; null: infinity"
    )
    best_step: int | None = Field(
        default=None, ge=1, description="of the checkpoint that is to be published, if not the last"
    )
    num_rollbacks: int = Field(default=0, ge=0, description="times that the run was rolled back")
