"""Where pixels are."""

import numpy as np

# Row and column.
NUM_COORDINATES = 2


def pixel_coordinates(height: int, width: int) -> np.ndarray:
    """Returns `[height, width, 2]`, float64: row and column of each pixel's middle, in (0, 1)."""
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
