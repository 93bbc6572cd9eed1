"""What the options of sources have in common that draw their examples at random."""

import numpy as np
from pydantic import Field

from base.config import Section
from base.seeds import stream

# Of both splits, that there is memory for: 512 MiB of 32-bit values.
MAX_VALUES = 2**27


class DrawnOptions(Section):
    """How many examples there are, and which."""

    num_train: int = Field(default=8192, ge=1, le=2**24, description="examples to train on")
    num_test: int = Field(default=1024, ge=1, le=2**24, description="examples held out")
    seed: int = Field(default=0, ge=0, lt=2**63, description="of the task and its examples")

    @property
    def task_rng(self) -> np.random.Generator:
        """What decides of the task, for both splits."""
        return stream(self.seed, "drawn task")

    @property
    def train_rng(self) -> np.random.Generator:
        """What draws the examples to train on."""
        return stream(self.seed, "drawn examples", 0)

    @property
    def test_rng(self) -> np.random.Generator:
        """What draws the examples held out."""
        return stream(self.seed, "drawn examples", 1)

    def check_size(self, values_each: int, keys: str) -> None:
        """Refuses more examples than memory should hold.

        Args:
            values_each: Values of one example, at the most that drawing takes.
            keys: What makes them many, in words.

        Raises:
            ValueError: There are more than `MAX_VALUES` in all.
        """
        total = (self.num_train + self.num_test) * values_each
        if total > MAX_VALUES:
            raise ValueError(
                f"num_train {self.num_train} and num_test {self.num_test} examples of "
                f"{values_each} values are {total:,}, more than {MAX_VALUES:,}; lower them or "
                f"{keys}"
            )
