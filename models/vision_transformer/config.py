"""What a vision transformer is made of, described once for both frameworks."""

from typing import Self

from pydantic import Field, model_validator

from base.config import MAX_INTEGER, Section

# Flax defaults to 1e-6 and PyTorch to 1e-5; one constant keeps the two networks one function.
LAYER_NORM_EPSILON = 1e-6

# As many were trained once, https://arxiv.org/abs/2203.00555; each is compiled by itself.
MAX_LAYERS = 1000


class VisionTransformerConfig(Section):
    """Shape of a pre-norm vision transformer with mean pooling.

    Reference: Dosovitskiy et al., "An Image is Worth 16x16 Words", https://arxiv.org/abs/2010.11929;
    mean pooling in place of a class token as in https://arxiv.org/abs/2205.01580.
    """

    image_size: int = Field(
        ge=1, le=MAX_INTEGER, description="height and width of an image, in pixels"
    )
    patch_size: int = Field(
        ge=1, le=MAX_INTEGER, description="height and width of a patch, in pixels"
    )
    num_channels: int = Field(ge=1, le=MAX_INTEGER, description="of an image")
    num_classes: int = Field(ge=2, le=MAX_INTEGER, description="to tell apart")
    embed_dim: int = Field(
        ge=1, le=MAX_INTEGER, description="width of a token; a multiple of num_heads"
    )
    num_heads: int = Field(ge=1, le=MAX_INTEGER, description="attention heads")
    num_layers: int = Field(ge=1, le=MAX_LAYERS, description="blocks")
    mlp_ratio: int = Field(
        default=4, ge=1, le=MAX_INTEGER, description="hidden width of the MLP / embed_dim"
    )

    @model_validator(mode="after")
    def _check_divisibility(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}"
            )
        return self

    @property
    def seq_len(self) -> int:
        """Number of patches, which are the tokens of the transformer."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def patch_dim(self) -> int:
        """Number of values in one patch."""
        return self.patch_size**2 * self.num_channels

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.embed_dim // self.num_heads

    @property
    def mlp_dim(self) -> int:
        """Hidden width of the MLP."""
        return self.embed_dim * self.mlp_ratio

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, `(height, width, channels)`."""
        return (self.image_size, self.image_size, self.num_channels)
