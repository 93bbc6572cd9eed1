"""What the network of these tests is made of."""

from pydantic import Field

from base.config import Section


class SowerConfig(Section):
    """Its sizes."""

    vocab_size: int = Field(default=13, ge=2)
    seq_len: int = Field(default=6, ge=1)
    width: int = Field(default=16, ge=1)
    dropout_rate: float = Field(default=0.0, ge=0, lt=1)
    stochastic_depth_rate: float = Field(default=0.0, ge=0, lt=1)
    gain: float = Field(default=1.0, gt=0, description="first value of a factor of activations")
