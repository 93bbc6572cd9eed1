"""Image augmentation on whole batches in numpy; randomness comes only from the generator given."""

import numpy as np


def random_affine(
    images: np.ndarray,
    rng: np.random.Generator,
    *,
    max_shift_pixels: float,
    max_rotation_degrees: float,
    max_scale: float,
) -> np.ndarray:
    """Shifts, turns and resizes each image by amounts of its own, uniform between +- the limits.

    Values between pixels are bilinear and values outside the image are 0.

    Args:
        images: `[batch, height, width, channels]` float32.
        rng: Where the amounts are drawn from.
        max_shift_pixels: Limit of the shift along each axis, in pixels.
        max_rotation_degrees: Limit of the turn about the image's centre, in degrees.
        max_scale: Limit of the relative change of size, in [0, 1); 0.1 draws from [0.9, 1.1].

    Returns:
        The new images, shape and dtype as given.
    """
    batch = len(images)
    shift = rng.uniform(-max_shift_pixels, max_shift_pixels, (2, batch))
    angle = np.deg2rad(rng.uniform(-max_rotation_degrees, max_rotation_degrees, batch))
    scale = 1.0 + rng.uniform(-max_scale, max_scale, batch)
    return _sample_bilinear(images, *_source_positions(images.shape, shift, angle, scale))


def _source_positions(
    shape: tuple[int, ...], shift: np.ndarray, angle: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows and columns to sample at, each `[batch, height, width]`."""
    _, height, width, _ = shape
    centre_row, centre_column = (height - 1) / 2, (width - 1) / 2
    row = np.arange(height)[None, :, None] - centre_row
    column = np.arange(width)[None, None, :] - centre_column
    cos, sin = (trig(angle)[:, None, None] / scale[:, None, None] for trig in (np.cos, np.sin))
    shift_row, shift_column = shift[:, :, None, None]
    source_row = cos * row - sin * column + centre_row + shift_row
    source_column = sin * row + cos * column + centre_column + shift_column
    return source_row, source_column


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
