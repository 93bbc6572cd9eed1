"""The filters that images are blurred with before pixels are left out."""

import math


def binomial(size: int) -> tuple[float, ...]:
    """Returns the weights of a binomial filter: a quarter, a half and a quarter of size 3."""
    return tuple(math.comb(size - 1, place) / 2 ** (size - 1) for place in range(size))


def min_side(size: int) -> int:
    """Returns the least side of an image whose reflection a filter of this size stays within."""
    return size // 2 + 1
