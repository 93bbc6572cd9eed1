"""How often and how long the bake-off trains, and what its sides and tables are called."""

from typing import NamedTuple

# The tables of the record.
TRIAL_TABLE = "trial"
RUN_TABLE = "run"

BASELINE = "adamw"
# What a side with its state in 8 bits is called, after the optimizer's name.
EIGHT_BITS = ", 8 bits"


class Preset(NamedTuple):
    """What is done for each task unless options say otherwise.

    Attributes:
      steps: Of each run.
      trials: To tune each optimizer by.
      seeds: Runs of each tuned optimizer.
    """

    steps: int
    trials: int
    seeds: int


DEFAULT = Preset(steps=300, trials=12, seeds=5)
QUICK = Preset(steps=100, trials=5, seeds=3)
