"""What a network reads: a vector, an image in patches, or tokens."""

import math
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from base.config import FROM_LIST, MAX_INTEGER, Section
from models.layers.fourier_features.config import FourierFeaturesConfig
from models.network import TensorSpec

_Size = Annotated[int, Field(ge=1, le=MAX_INTEGER)]


class VectorConfig(Section):
    """Numbers of any shape, taken as one vector."""

    shape: Annotated[tuple[_Size, ...], FROM_LIST] = Field(
        min_length=1, max_length=8, description="of one example, which is flattened"
    )
    fourier_features: FourierFeaturesConfig = FourierFeaturesConfig()

    @property
    def num_values(self) -> int:
        """Numbers of an example."""
        return math.prod(self.shape)


class PatchesConfig(Section):
    """A square image, cut into square patches, each of which is a token.

    Reference: Dosovitskiy et al., "An Image is Worth 16x16 Words", https://arxiv.org/abs/2010.11929.
    """

    image_size: _Size = Field(description="height and width of an image, in pixels")
    patch_size: _Size = Field(description="height and width of a patch, in pixels")
    num_channels: _Size = Field(description="numbers of a pixel")

    @model_validator(mode="after")
    def _check_divisibility(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        return self


class TokensConfig(Section):
    """Tokens by number; negative ones are padding, which changes nothing for the others."""

    vocab_size: int = Field(ge=2, le=MAX_INTEGER, description="tokens are below it")
    seq_len: _Size = Field(description="tokens of an example at most; a batch may have fewer")
    stddev: float = Field(
        default=0.02, ge=0, le=10, description="of the first values of tokens' vectors"
    )


class InputConfig(Section):
    """One of the three."""

    vector: VectorConfig | None = Field(default=None, description="numbers as one vector")
    patches: PatchesConfig | None = Field(default=None, description="an image in patches")
    tokens: TokensConfig | None = Field(default=None, description="tokens by number")

    @model_validator(mode="after")
    def _check_there_is_one(self) -> Self:
        kinds = {"vector": self.vector, "patches": self.patches, "tokens": self.tokens}
        given = [name for name, kind in kinds.items() if kind is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"expected one of {', '.join(kinds)}, got {found}")
        return self

    @property
    def spec(self) -> TensorSpec:
        """What one example is."""
        if self.vector is not None:
            return TensorSpec("features", "float32", self.vector.shape)
        if self.patches is not None:
            size = self.patches.image_size
            return TensorSpec("image", "float32", (size, size, self.patches.num_channels))
        assert self.tokens is not None
        return TensorSpec("tokens", "int32", (self.tokens.seq_len,), limit=self.tokens.vocab_size)

    @property
    def seq_len(self) -> int:
        """Number of tokens of an example, at most; a vector is one."""
        if self.patches is not None:
            return (self.patches.image_size // self.patches.patch_size) ** 2
        return 1 if self.tokens is None else self.tokens.seq_len

    @property
    def num_features(self) -> int:
        """Numbers of which a linear layer makes a token; of tokens, the kinds there are."""
        if self.vector is not None:
            return self.vector.fourier_features.num_features(self.vector.num_values)
        if self.patches is not None:
            return self.patches.patch_size**2 * self.patches.num_channels
        assert self.tokens is not None
        return self.tokens.vocab_size

    def check_shape(self, shape: Sequence[int]) -> None:
        """Checks the shape of a batch.

        Raises:
            ValueError: It is not `[batch, *spec.shape]`, or that with fewer tokens.
        """
        wanted = self.spec.shape
        shorter = self.tokens is not None and len(shape) == 2 and 1 <= shape[1] <= wanted[0]
        if not shorter and tuple(shape[1:]) != wanted:
            most = " or fewer" if self.tokens is not None else ""
            raise ValueError(
                f"expected {self.spec.name} [batch, {', '.join(map(str, wanted))}{most}], "
                f"got shape {list(shape)}"
            )
