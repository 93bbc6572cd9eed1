"""The section `regularization`: factors that change over a run."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from base.config import Section, refuse_unheeded


class FactorConfig(Section):
    """A factor that goes from `initial` to `final` while a run goes from `begin` to `end`."""

    shape: Literal["constant", "linear", "cosine", "step"] = Field(
        default="constant",
        description="constant: initial throughout; step: all at once, halfway from begin to end",
    )
    initial: float = Field(default=1.0, ge=0, le=1, description="until begin")
    final: float = Field(default=1.0, ge=0, le=1, description="from end on")
    begin: float = Field(default=0.0, ge=0, le=1, description="of the run's steps")
    end: float = Field(default=1.0, ge=0, le=1, description="of the run's steps")

    @model_validator(mode="after")
    def _check_keys_are_heeded(self) -> Self:
        if self.shape == "constant":
            # Else a rise from 0 whose shape was forgotten would be 0 throughout.
            heeded = "with shape linear, cosine or step"
            refuse_unheeded(self, ("final", "begin", "end"), heeded=heeded)
        return self

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.begin > self.end:
            raise ValueError(f"begin: expected at most end ({self.end:g}), got {self.begin:g}")
        return self

    @property
    def is_off(self) -> bool:
        """Whether it is 1 at every step."""
        return self.initial == self.final == 1.0

    def at(self, step: int, num_steps: int) -> float:
        """Returns the factor of a step, counted from 0; `end` 1 is the step after the last."""
        done = step / num_steps
        if done >= self.end:
            progress = 1.0
        elif done <= self.begin:
            progress = 0.0
        else:
            progress = (done - self.begin) / (self.end - self.begin)
        match self.shape:
            case "constant":
                progress = 0.0
            case "cosine":
                progress = 0.5 - 0.5 * math.cos(math.pi * progress)
            case "step":
                progress = float(progress >= 0.5)
        return self.initial + (self.final - self.initial) * progress


class RegularizationConfig(Section):
    """Factors of what the network and the optimizer say of themselves; 1 throughout by default.

    A network can be regularised less at first, while it still underfits, or less at the end.

    Reference: Morerio et al., "Curriculum Dropout", https://arxiv.org/abs/1703.06229; Liu et al.,
    "Dropout Reduces Underfitting", https://arxiv.org/abs/2303.01500.
    """

    dropout: FactorConfig = Field(
        default=FactorConfig(), description="of every rate of dropout but attention's own"
    )
    stochastic_depth: FactorConfig = Field(
        default=FactorConfig(), description="of every rate of stochastic depth"
    )
    weight_decay: FactorConfig = Field(
        default=FactorConfig(), description="of the optimizer's weight_decay"
    )
