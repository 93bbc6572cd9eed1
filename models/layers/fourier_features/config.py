"""What Fourier features are made of."""

from pydantic import Field

from base.config import Section

# More would be wider than any network that reads them.
MAX_FREQUENCIES = 2**20


class FourierFeaturesConfig(Section):
    """Sines and cosines of an input, beside it, by which a network sees fine detail."""

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

    def num_features(self, inputs: int) -> int:
        """Returns how many values come out, of how many that go in."""
        return inputs + 2 * self.num_frequencies
