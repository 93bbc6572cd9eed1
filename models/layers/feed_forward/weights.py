"""The weights of a feed-forward layer."""

from models.layers.feed_forward.config import FeedForwardConfig
from models.layers.linear.weights import linear
from models.network import Weight, prefixed


def feed_forward(config: FeedForwardConfig, width: int) -> dict[str, Weight]:
    """Returns `fc1` to the hidden units, `gate` of a gated layer, and `fc2` back to the width."""
    hidden = config.hidden(width)
    weights = prefixed("fc1", linear(width, hidden, bias=config.bias))
    if config.kind == "gated":
        weights |= prefixed("gate", linear(width, hidden, bias=config.bias))
    return weights | prefixed("fc2", linear(hidden, width, bias=config.bias))
