"""What a normalisation of features does."""

from typing import Literal

from pydantic import Field

from base.config import Section


class NormConfig(Section):
    """A normalisation over the last axis, with a learned scale and, of a layer norm, a bias."""

    kind: Literal["layer", "rms"] = Field(
        default="layer", description="rms leaves the mean as it is and has no bias"
    )
    # Flax defaults to 1e-6 and PyTorch to 1e-5; one constant keeps two networks one function.
    epsilon: float = Field(default=1e-6, gt=0, le=1, description="added to the variance")
