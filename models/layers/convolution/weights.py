"""The weights of a convolution."""

from models.initializers import Initializer, he_normal, zeros
from models.network import Weight


def convolution(
    inputs: int,
    outputs: int,
    kernel_size: int,
    *,
    groups: int = 1,
    bias: bool = True,
    init: Initializer = he_normal,
) -> dict[str, Weight]:
    """Returns `weight [outputs, inputs / groups, kernel_size, kernel_size]` and `bias [outputs]`.

    Args:
        inputs: Channels in; a multiple of `groups`.
        outputs: Channels out; a multiple of `groups`.
        kernel_size: Height and width of the kernel.
        groups: Into so many equal parts channels fall that do not see each other.
        bias: Whether there is one; zeros.
        init: Draws the weight.
    """
    weights = {"weight": Weight((outputs, inputs // groups, kernel_size, kernel_size), init)}
    return weights | {"bias": Weight((outputs,), zeros)} if bias else weights
