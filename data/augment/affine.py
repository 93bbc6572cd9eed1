"""Image augmentation on whole batches in numpy; randomness comes only from the generator given."""

from dataclasses import dataclass

import numpy as np

# Images are warped a block at a time, of at most so many pixels or one image: a cache holds what is
# computed on the way, and the system is not asked for new memory again and again.
_BLOCK_POSITIONS = 12288


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
        _, height, width, _ = images.shape
        num_images = max(1, _BLOCK_POSITIONS // (height * width))
        warped = np.empty_like(images)
        for start in range(0, len(images), num_images):
            block = slice(start, start + num_images)
            positions = self[block]._source_positions(images[block].shape)
            warped[block] = _sample_bilinear(images[block], *positions)
        return warped

    def _source_positions(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows and columns to sample at, each `[batch, height, width]`."""
        _, height, width, _ = shape
        centre_row, centre_column = (height - 1) / 2, (width - 1) / 2
        row = np.arange(height)[None, :, None] - centre_row
        column = np.arange(width)[None, None, :] - centre_column
        cos, sin = self.turn[:, :, None, None]
        shift_row, shift_column = self.shift[:, :, None, None]
        source_row = cos * row - sin * column
        source_row += centre_row
        source_row += shift_row
        source_column = sin * row + cos * column
        source_column += centre_column
        source_column += shift_column
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
    """Returns what images are at positions `[batch, height, width]`, which it overwrites."""
    batch, height, width, channels = images.shape
    # A border of zeros makes "outside" an ordinary neighbour: one pixel before the image, and two
    # behind it, of which the second stands beside a position that is on the first.
    stride = width + 3
    padded = np.zeros((batch, height + 3, stride, channels), images.dtype)
    padded[:, 1:-2, 1:-2] = images
    top, down = _whole_and_rest(row, height, images.dtype)
    left, right = _whole_and_rest(column, width, images.dtype)
    # All pixels in one row: a neighbour is at the same place in a row that begins later.
    pixels = padded.reshape(-1, channels)
    first = np.arange(batch)[:, None, None] * ((height + 3) * stride)
    place = (top * stride + left + first).astype(np.intp)
    up, back = 1 - down, 1 - right
    upper = pixels.take(place, axis=0) * back + pixels[1:].take(place, axis=0) * right
    below = pixels[stride:]
    lower = below.take(place, axis=0) * back + below[1:].take(place, axis=0) * right
    mixed: np.ndarray = upper * up + lower * down
    return mixed


def _whole_and_rest(
    position: np.ndarray, size: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixel before each position, counted from the border, and how far it is from it.

    Args:
        position: In an image without its border; overwritten.
        size: Of the image along this axis; positions beyond it are moved onto the border.
        dtype: Of the second, which has an axis for channels.
    """
    position += 1
    np.clip(position, 0, size + 1, out=position)
    whole = np.floor(position)
    position -= whole
    return whole, position.astype(dtype)[..., None]
