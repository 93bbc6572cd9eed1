"""What Fourier features are made of."""

from typing import Self

from pydantic import Field, model_validator

from base.config import Section, refuse_unheeded

# More would be wider than any network that reads them.
MAX_FREQUENCIES = 2**20


class FourierFeaturesConfig(Section):
    """Sines and cosines of an input, beside it, by which a network sees fine detail."""

    enabled: bool = Field(default=False, description="put sines and cosines beside the input")
    num_frequencies: int = Field(
        default=16,
        ge=1,
        le=MAX_FREQUENCIES,
        description="directions in the input's space; each gives a sine and a cosine",
    )
    scale: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        description="deviation of the frequencies, in periods a unit of the input; larger for "
        "finer detail",
    )
    learned: bool = Field(
        default=False, description="whether training changes the frequencies, too"
    )

    @model_validator(mode="after")
    def _check_keys_are_heeded(self) -> Self:
        if not self.enabled:
            refuse_unheeded(self, ("num_frequencies", "scale", "learned"), heeded="with enabled")
        return self

    def num_features(self, inputs: int) -> int:
        """Returns how many values there are where so many go in; as many, unless enabled."""
        return inputs + 2 * self.num_frequencies * self.enabled
