"""The weights of a squeeze-and-excitation."""

from models.initializers import he_normal
from models.layers.linear.weights import linear
from models.layers.squeeze_excitation.config import SqueezeExcitationConfig
from models.network import Weight, prefixed


def squeeze_excitation(config: SqueezeExcitationConfig, channels: int) -> dict[str, Weight]:
    """Returns those of two linear layers with biases, `fc1` and `fc2`."""
    squeezed = config.squeezed(channels)
    return {
        **prefixed("fc1", linear(channels, squeezed, init=he_normal)),
        **prefixed("fc2", linear(squeezed, channels)),
    }
