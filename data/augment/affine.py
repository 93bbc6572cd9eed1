"""Image augmentation on whole batches in numpy; randomness comes only from the generator given."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Affine:
    """Shifts, turns and sizes of the images of a batch, drawn and not yet applied.

    They are drawn for a whole batch and applied to any part of it, so that what is drawn for an
    image does not depend on who warps it.

    Attributes:
        shift: `[2, batch]`, down and to the right, in pixels.
        turn: `[2, batch]`, cosine and sine of the angle, both divided by the relative size.
    """

    shift: np.ndarray
    turn: np.ndarray

    def __getitem__(self, part: slice) -> "Affine":
        """Returns those of a part of the batch."""
        return Affine(self.shift[:, part], self.turn[:, part])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Warps images `[batch, height, width, channels]` float32 to others of the same shape.

        Values between pixels are bilinear and values outside the image are 0.
        """
        return _sample_bilinear(images, *self._source_positions(images.shape))

    def _source_positions(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows and columns to sample at, each `[batch, height, width]`."""
        _, height, width, _ = shape
        centre_row, centre_column = (height - 1) / 2, (width - 1) / 2
        row = np.arange(height)[None, :, None] - centre_row
        column = np.arange(width)[None, None, :] - centre_column
        cos, sin = self.turn[:, :, None, None]
        shift_row, shift_column = self.shift[:, :, None, None]
        source_row = cos * row - sin * column + centre_row + shift_row
        source_column = sin * row + cos * column + centre_column + shift_column
        return source_row, source_column


def random_affine(
    batch_size: int,
    rng: np.random.Generator,
    *,
    max_shift_pixels: float,
    max_rotation_degrees: float,
    max_scale: float,
) -> Affine:
    """Draws a warp for each image of a batch, of amounts uniform between +- the limits.

    Args:
        batch_size: Number of images.
        rng: Where the amounts are drawn from.
        max_shift_pixels: Limit of the shift along each axis, in pixels.
        max_rotation_degrees: Limit of the turn about the image's centre, in degrees.
        max_scale: Limit of the relative change of size, in [0, 1); 0.1 draws from [0.9, 1.1].
    """
    shift = rng.uniform(-max_shift_pixels, max_shift_pixels, (2, batch_size))
    angle = np.deg2rad(rng.uniform(-max_rotation_degrees, max_rotation_degrees, batch_size))
    scale = 1.0 + rng.uniform(-max_scale, max_scale, batch_size)
    return Affine(shift, np.stack([np.cos(angle) / scale, np.sin(angle) / scale]))


def _sample_bilinear(images: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    batch, height, width, channels = images.shape
    # A border of one zero pixel makes "outside" an ordinary neighbour.
    padded = np.zeros((batch, height + 2, width + 2, channels), images.dtype)
    padded[:, 1:-1, 1:-1] = images
    row = np.clip(row + 1, 0, height + 1)
    column = np.clip(column + 1, 0, width + 1)
    top = np.minimum(row.astype(np.intp), height)
    left = np.minimum(column.astype(np.intp), width)
    down = (row - top)[..., None].astype(images.dtype)
    right = (column - left)[..., None].astype(images.dtype)
    image = np.arange(batch)[:, None, None]
    upper = padded[image, top, left] * (1 - right) + padded[image, top, left + 1] * right
    lower = padded[image, top + 1, left] * (1 - right) + padded[image, top + 1, left + 1] * right
    return upper * (1 - down) + lower * down
