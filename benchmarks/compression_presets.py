"""What the benchmark of compression measures."""

from collections.abc import Sequence
from typing import NamedTuple


class Preset(NamedTuple):
    """What is measured unless options say otherwise."""

    world_sizes: Sequence[int]
    rates: Sequence[float]
    repeats: int
    error_steps: int
    kernel_budget_s: float


DEFAULT = Preset((2, 4), (1.0, 10.0, 25.0), 9, 10, 2.0)
QUICK = Preset((2,), (1.0, 10.0), 3, 3, 0.5)
