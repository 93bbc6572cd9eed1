"""What a run comes to that is asked to end before its time."""

from pathlib import Path
from typing import NamedTuple


class Suspension(NamedTuple):
    """A run that was asked to end before its last step, and goes on when it is started again.

    Attributes:
        directory: Of the run.
        step: Updates that were made.
        num_steps: Updates in the whole run.
        saved: The checkpoint of that step; or why there is none.
    """

    directory: Path
    step: int
    num_steps: int
    saved: Path | str
