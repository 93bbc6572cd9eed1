"""What the benchmark of compression measures, and what its sides and tables are called."""

from collections.abc import Sequence
from typing import NamedTuple

# The tables of the record.
ERROR_TABLE = "error"
KERNEL_TABLE = "kernel"
LINK_TABLE = "link"
TIME_TABLE = "time"

NOTHING = "no exchange"
FLOAT32 = "float32"
BFLOAT16 = "bf16 hook"
FLOAT16 = "fp16 hook"
POWER_SGD = {rank: f"PowerSGD rank {rank}" for rank in (1, 2, 4)}
OURS = "ours int8"
OURS_WITHOUT_FEEDBACK = "ours int8, no feedback"
OURS_FLOAT8 = "ours e4m3"

SIDES = (
    NOTHING,
    FLOAT32,
    BFLOAT16,
    FLOAT16,
    *POWER_SGD.values(),
    OURS,
    OURS_WITHOUT_FEEDBACK,
    OURS_FLOAT8,
)

# What torch has and nobody can time here, and why.
MISSING = {
    "uint8 per tensor": "torch's quantization_pertensor_hook fails on gloo (IndexError): it takes "
    "the result of an all-gather for a list in a list, which only NCCL returns"
}

# What a kernel is timed beside.
COPY = "copy"


class Preset(NamedTuple):
    """What is measured unless options say otherwise.

    Attributes:
      world_sizes: numbers of ranks.
      rates: of the links, in Gbit/s.
      repeats: timed steps of each side over each link, in turns.
      error_steps: steps of which the error of the mean is measured.
      kernel_budget_s: for one kernel and the copy beside it.
    """

    world_sizes: Sequence[int]
    rates: Sequence[float]
    repeats: int
    error_steps: int
    kernel_budget_s: float


DEFAULT = Preset((2, 4), (1.0, 10.0, 25.0), 9, 10, 2.0)
QUICK = Preset((2,), (1.0, 10.0), 3, 3, 0.5)
