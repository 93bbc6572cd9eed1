"""Sets a square of each image to 0.

Reference: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with
Cutout", https://arxiv.org/abs/1708.04552.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cutout:
    """Squares in the images of a batch.

    Attributes:
        centre: `[2, batch]` in [0, 1), down and to the right, as shares of the image's sides.
        pixels: Side of a square; what lies outside the image is not there.
    """

    centre: np.ndarray
    pixels: int

    def __getitem__(self, part: slice) -> "Cutout":
        """Returns those of a part of the batch."""
        return Cutout(self.centre[:, part], self.pixels)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Clears squares of images `[batch, height, width, channels]`."""
        _, height, width, _ = images.shape
        inside_row = self._inside(self.centre[0], height)[:, :, None]
        inside_column = self._inside(self.centre[1], width)[:, None, :]
        return np.where((inside_row & inside_column)[..., None], images.dtype.type(0), images)

    def _inside(self, centre: np.ndarray, size: int) -> np.ndarray:
        """Returns `[batch, size]`, whether a row or a column goes through the square."""
        start = np.floor(centre * size)[:, None] - self.pixels // 2
        place = np.arange(size)
        inside: np.ndarray = (start <= place) & (place < start + self.pixels)
        return inside


def random_cutout(batch_size: int, rng: np.random.Generator, *, pixels: int) -> Cutout:
    """Draws a square for each image of a batch, its centre on any pixel."""
    return Cutout(rng.random((2, batch_size)), pixels)
