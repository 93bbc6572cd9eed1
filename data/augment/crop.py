"""Pads images with zeros and cuts windows of the old size out of them.

Reference: He et al., "Deep Residual Learning for Image Recognition",
https://arxiv.org/abs/1512.03385, section 4.2.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Crop:
    """Windows of the images of a batch.

    Attributes:
        start: `[2, batch]` integers, row and column at which a window starts in the padded image.
        padding: Zeros on each side, in pixels.
    """

    start: np.ndarray
    padding: int

    def __getitem__(self, part: slice) -> "Crop":
        """Returns those of a part of the batch."""
        return Crop(self.start[:, part], self.padding)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Cuts images `[batch, height, width, channels]` to others of the same shape."""
        batch, height, width, _ = images.shape
        sides = (self.padding, self.padding)
        padded = np.pad(images, ((0, 0), sides, sides, (0, 0)))
        row = self.start[0][:, None, None] + np.arange(height)[:, None]
        column = self.start[1][:, None, None] + np.arange(width)
        cut: np.ndarray = padded[np.arange(batch)[:, None, None], row, column]
        return cut


def random_crop(batch_size: int, rng: np.random.Generator, *, padding: int) -> Crop:
    """Draws a window for each image of a batch, each place as likely as any other."""
    return Crop(rng.integers(0, 2 * padding + 1, (2, batch_size)), padding)
