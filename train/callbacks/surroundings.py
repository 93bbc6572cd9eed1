"""What callbacks of a configuration may use besides the events that they hear."""

from dataclasses import dataclass
from pathlib import Path

from train.backends.backend import Backend
from train.phases import Phases


@dataclass(frozen=True)
class Surroundings:
    """Of a run, on its first rank.

    Attributes:
        directory: Of the run; see `train.checkpoint.run_directory`.
        backend: What computes; it has started once `Began` is told.
        phases: Where the time goes, as measured so far.
    """

    directory: Path
    backend: Backend
    phases: Phases
