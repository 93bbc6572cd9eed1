"""By which angles heads turn; of both frameworks, in numpy."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.layers.positions.config import RotaryConfig


def rotary_dim(config: RotaryConfig, head_dim: int) -> int:
    """Returns how many features of a head turn.

    Raises:
        ValueError: They are no whole number of pairs.
    """
    # A fraction such as 1/3 is not exact.
    turned = round(config.fraction * head_dim, 3)
    if turned < 2 or turned % 2:
        raise ValueError(
            f"rotary positions turn pairs of features, but rotary.fraction {config.fraction} of "
            f"heads of {head_dim} is {turned:g}; {_fitting(turned, head_dim)}"
        )
    return int(turned)


def _fitting(turned: float, head_dim: int) -> str:
    """Says what would be a whole number of pairs, nearest to so many features."""
    if head_dim < 2:
        return "fewer or wider heads would fit"
    below = max(2, int(turned // 2) * 2)
    sides = dict.fromkeys(f"{pairs / head_dim:.6g}" for pairs in (below, below + 2))
    fractions = [text for text in sides if float(text) <= 1]
    return f"rotary.fraction {' or '.join(fractions)} would fit, and so would other heads"


@lru_cache(maxsize=64)
def angles(config: RotaryConfig, head_dim: int, positions: int) -> NDArray[np.float64]:
    """Returns the angle of each pair at each position from 0 on, `[positions, rotary_dim / 2]`."""
    dim = rotary_dim(config, head_dim)
    frequencies = config.base ** (-np.arange(0, dim, 2) / dim) / config.interpolation
    return np.arange(positions)[:, None] * frequencies
