"""The weights of an embedding."""

from models.initializers import normal
from models.layers.embedding.config import InputConfig
from models.layers.fourier_features.weights import fourier_features
from models.layers.linear.weights import linear
from models.network import Weight, prefixed


def embedding(config: InputConfig, width: int) -> dict[str, Weight]:
    """Returns `weight [vocab_size, width]` of tokens, or the linear layer `projection`.

    A vector may have `fourier_features`, too.
    """
    if config.tokens is not None:
        return {"weight": Weight((config.num_features, width), normal(config.tokens.stddev))}
    weights = prefixed("projection", linear(config.num_features, width))
    vector = config.vector
    if vector is not None and vector.fourier_features.enabled:
        fourier = fourier_features(vector.fourier_features, vector.num_values)
        weights |= prefixed("fourier_features", fourier)
    return weights
