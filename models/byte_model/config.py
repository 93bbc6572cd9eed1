"""What a language model over bytes is made of."""

from typing import Self

from pydantic import Field, model_validator

from base.config import MAX_INTEGER, Section

NUM_BYTES = 256


class ByteModelConfig(Section):
    """Shape of a pre-norm transformer that predicts the next byte, with rotary positions."""

    num_layers: int = Field(ge=1, le=MAX_INTEGER)
    embed_dim: int = Field(ge=1, le=MAX_INTEGER)
    num_heads: int = Field(ge=1, le=MAX_INTEGER)
    mlp_dim: int = Field(ge=1, le=MAX_INTEGER, description="hidden width of the MLP")

    @model_validator(mode="after")
    def _check_divisibility(self) -> Self:
        # A rotation turns pairs of a head's features.
        if self.embed_dim % (2 * self.num_heads):
            raise ValueError(
                f"embed_dim {self.embed_dim} is not a multiple of twice num_heads {self.num_heads}"
            )
        return self
