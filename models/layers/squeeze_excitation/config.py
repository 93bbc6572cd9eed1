"""What a squeeze-and-excitation does."""

from pydantic import Field

from base.config import Section
from models.layers.activation.names import Activation, Gate


class SqueezeExcitationConfig(Section):
    """Channels scaled by what the whole image says of them."""

    ratio: float = Field(
        default=0.0625,
        gt=0,
        le=1,
        description="width of the squeezed layer / number of channels, rounded, at least 1",
    )
    activation: Activation = Field(default="relu", description="of the squeezed layer")
    gate: Gate = Field(default="sigmoid", description="makes a factor of what a channel gets")

    def squeezed(self, channels: int) -> int:
        """Returns the width of the squeezed layer."""
        return max(1, round(self.ratio * channels))
