"""What a squeeze-and-excitation does."""

from typing import Self

from pydantic import Field, model_validator

from base.config import Section, refuse_unheeded
from models.layers.activation.names import Activation, Gate


class SqueezeExcitationConfig(Section):
    """Channels scaled by what the whole image says of them."""

    enabled: bool = Field(default=False, description="scale channels")
    ratio: float = Field(
        default=0.0625,
        gt=0,
        le=1,
        description="width of the squeezed layer / number of channels, rounded, at least 1",
    )
    activation: Activation = Field(default="relu", description="of the squeezed layer")
    gate: Gate = Field(default="sigmoid", description="makes a factor of what a channel gets")

    @model_validator(mode="after")
    def _check_keys_are_heeded(self) -> Self:
        if not self.enabled:
            refuse_unheeded(self, ("ratio", "activation", "gate"), heeded="with enabled")
        return self

    def squeezed(self, channels: int) -> int:
        """Returns the width of the squeezed layer."""
        return max(1, round(self.ratio * channels))
