"""The section `precision`: in which numbers networks compute."""

from typing import Literal, Self

from pydantic import Field, model_validator

from base.config import Section

# Counts are of 32 bits; no run has more steps.
_MAX_COUNT = 2**31 - 1


class LossScalingConfig(Section):
    """How `train.loss_scale` moves the factor that keeps float16 gradients from vanishing."""

    initial_scale: float = Field(default=2.0**16, gt=0, description="factor of the first loss")
    growth_interval: int = Field(
        default=2000, ge=1, le=_MAX_COUNT, description="steps without overflow before it grows"
    )
    growth_factor: float = Field(default=2.0, gt=1, description="by which it grows")
    backoff_factor: float = Field(
        default=0.5, gt=0, lt=1, description="by which it shrinks after overflows"
    )
    hysteresis: int = Field(
        default=1, ge=1, le=_MAX_COUNT, description="overflows since it last grew before it shrinks"
    )
    min_scale: float = Field(default=1.0, gt=0, description="it shrinks no further")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min_scale > self.initial_scale:
            raise ValueError(
                f"min_scale: expected at most initial_scale ({self.initial_scale:g}), got "
                f"{self.min_scale:g}"
            )
        return self


class PrecisionConfig(Section):
    """The type of activations and of their gradients.

    Weights, their gradients, the optimizer's state, norms, softmax, running statistics, logits and
    losses are float32 whatever it is, and so are evaluation and serving.
    """

    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="in which networks compute in training"
    )
    loss_scaling: LossScalingConfig = LossScalingConfig()

    @property
    def compute_dtype(self) -> str | None:
        """NumPy's name of the type, for a `Context`; None: that of the weights."""
        return None if self.dtype == "float32" else self.dtype

    @property
    def scales_loss(self) -> bool:
        """Whether gradients would be lost otherwise: float16 alone has no room for small ones."""
        return self.dtype == "float16"
