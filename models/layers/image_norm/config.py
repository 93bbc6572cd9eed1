"""What a normalisation of images does."""

from typing import Literal, Self

from pydantic import Field, model_validator

from base.config import MAX_INTEGER, Section, refuse_unheeded


class ImageNormConfig(Section):
    """A normalisation of images `[batch, height, width, channels]`, then a scale and a bias."""

    kind: Literal["batch", "layer", "group", "instance", "switchable", "none"] = Field(
        default="batch",
        description="what has mean 0 and variance 1 afterwards: each channel over the batch, each "
        "example, each group of an example's channels, each channel of an example; a learned "
        "mixture of these four; or nothing",
    )
    epsilon: float = Field(default=1e-5, gt=0, le=1, description="added to the variance")
    momentum: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="of batch and switchable: share of the latest batch in the running statistics, "
        "which evaluation uses",
    )
    num_groups: int = Field(
        default=8,
        ge=1,
        le=MAX_INTEGER,
        description="of group and switchable: groups of channels; divides every width",
    )

    @model_validator(mode="after")
    def _check_keys_are_heeded(self) -> Self:
        if not self.is_learned:
            refuse_unheeded(self, ("epsilon",), heeded="with a kind other than none")
        if not self.has_statistics:
            refuse_unheeded(self, ("momentum",), heeded="with kind batch or switchable")
        if not self.has_groups:
            refuse_unheeded(self, ("num_groups",), heeded="with kind group or switchable")
        return self

    def values(self, channels: int, pixels: int) -> int | None:
        """Returns of how many values of an example a mean is; None: of those of others, too.

        Args:
            channels: Of an image.
            pixels: Of an image.
        """
        groups = {"layer": 1, "group": self.num_groups, "instance": channels}.get(self.kind)
        return None if groups is None else channels // groups * pixels

    @property
    def is_learned(self) -> bool:
        """Whether there is any normalisation, and so a scale and a bias."""
        return self.kind != "none"

    @property
    def has_statistics(self) -> bool:
        """Whether the batch's mean and variance are tracked."""
        return self.kind in ("batch", "switchable")

    @property
    def has_groups(self) -> bool:
        """Whether `num_groups` has to divide the width."""
        return self.kind in ("group", "switchable")
