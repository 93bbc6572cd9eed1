"""The weights of a linear layer."""

from models.initializers import Initializer, glorot_uniform, zeros
from models.network import Weight


def linear(
    inputs: int, outputs: int, *, bias: bool = True, init: Initializer = glorot_uniform
) -> dict[str, Weight]:
    """Returns `weight [outputs, inputs]`, drawn by `init`, and `bias [outputs]`, zeros."""
    weights = {"weight": Weight((outputs, inputs), init)}
    return weights | {"bias": Weight((outputs,), zeros)} if bias else weights
