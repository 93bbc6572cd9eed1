"""The weights of a head."""

from models.initializers import zeros
from models.layers.head.config import HeadConfig
from models.network import Weight


def head(config: HeadConfig, width: int, outputs: int) -> dict[str, Weight]:
    """Returns `weight [outputs, width]`, unless it is tied, and `bias [outputs]`.

    All are zero, so that training starts from uniform predictions.
    """
    weights = {} if config.tied else {"weight": Weight((outputs, width), zeros)}
    return weights | {"bias": Weight((outputs,), zeros)} if config.bias else weights
