"""The weights of Fourier features."""

from models.initializers import normal
from models.layers.fourier_features.config import FourierFeaturesConfig
from models.network import Weight


def fourier_features(config: FourierFeaturesConfig, inputs: int) -> dict[str, Weight]:
    """Returns `frequencies [num_frequencies, inputs]`, normal; constant unless they are learned."""
    shape = (config.num_frequencies, inputs)
    return {"frequencies": Weight(shape, normal(config.scale), trainable=config.learned)}
