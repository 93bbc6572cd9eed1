"""How steeply the heads' scores fall with distance; of both frameworks, in numpy."""

import numpy as np
from numpy.typing import NDArray


def geometric_slopes(num_heads: int) -> NDArray[np.float64]:
    """Returns the slope of each head, `[num_heads]`: 2^(-8/n), 2^(-16/n), ... of n heads.

    Where n is no power of two, the series of the power below is followed by every other slope of
    that of the power above, as the authors have it.

    Reference: Press et al., "Train Short, Test Long", https://arxiv.org/abs/2108.12409.
    """
    below = 1 << (num_heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * (i + 1) / below) for i in range(below)]
    between = [2.0 ** (-4.0 * (i + 1) / below) for i in range(0, 2 * below, 2)]
    return np.array(slopes + between[: num_heads - below])
