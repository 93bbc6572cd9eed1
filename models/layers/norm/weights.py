"""The weights of a normalisation of features."""

from models.initializers import ones, zeros
from models.layers.norm.config import NormConfig
from models.network import Weight


def norm(config: NormConfig, width: int) -> dict[str, Weight]:
    """Returns `weight [width]`, ones, and of a layer norm `bias [width]`, zeros."""
    weights = {"weight": Weight((width,), ones)}
    return weights | {"bias": Weight((width,), zeros)} if config.kind == "layer" else weights
