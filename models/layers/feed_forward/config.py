"""What a feed-forward layer is."""

import math
from typing import Literal

from pydantic import Field

from base.config import Section
from models.layers.activation.names import Activation


class FeedForwardConfig(Section):
    """Two linear layers around an activation function, which may be gated by a third."""

    kind: Literal["dense", "gated"] = Field(
        default="dense",
        description="gated multiplies the hidden units by activated ones: SwiGLU with silu, GeGLU "
        "with gelu",
    )
    activation: Activation = Field(default="gelu", description="of the hidden units")
    hidden_ratio: float = Field(default=4.0, gt=0, le=1024, description="hidden units / width")
    hidden_multiple_of: int = Field(
        default=1, ge=1, le=65536, description="the number of hidden units is rounded up to it"
    )
    bias: bool = Field(default=True, description="whether its linear layers add one")
    dropout_rate: float = Field(default=0.0, ge=0, lt=1, description="of the hidden units")

    def hidden(self, width: int) -> int:
        """Returns the number of hidden units of a layer of this width."""
        # A ratio such as 8/3 is not exact: 8/3 of 96 are 256, and not one more.
        exact = round(self.hidden_ratio * width, 6)
        return max(1, math.ceil(exact / self.hidden_multiple_of)) * self.hidden_multiple_of
