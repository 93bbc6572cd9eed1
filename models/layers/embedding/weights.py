"""The weights of an embedding."""

from models.initializers import normal
from models.layers.embedding.config import InputConfig
from models.layers.linear.weights import linear
from models.network import Weight, prefixed


def embedding(config: InputConfig, width: int) -> dict[str, Weight]:
    """Returns `weight [vocab_size, width]` of tokens, or the linear layer `projection`."""
    if config.tokens is not None:
        return {"weight": Weight((config.num_features, width), normal(config.tokens.stddev))}
    return prefixed("projection", linear(config.num_features, width))
