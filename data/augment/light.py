"""Makes images lighter or darker, and stronger or weaker in contrast."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Light:
    """Changes of the images of a batch; values may leave the range that they had.

    Attributes:
        brightness: `[batch]`, added to all values.
        contrast: `[batch]`, factor of how far values are from the mean of their image and channel.
    """

    brightness: np.ndarray
    contrast: np.ndarray

    def __getitem__(self, part: slice) -> "Light":
        """Returns those of a part of the batch."""
        return Light(self.brightness[part], self.contrast[part])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Changes images `[batch, height, width, channels]`."""
        brightness, contrast = (
            values[:, None, None, None].astype(images.dtype)
            for values in (self.brightness, self.contrast)
        )
        mean = images.mean(axis=(1, 2), keepdims=True)
        changed: np.ndarray = (images - mean) * contrast + mean + brightness
        return changed


def random_light(
    batch_size: int, rng: np.random.Generator, *, max_brightness: float, max_contrast: float
) -> Light:
    """Draws changes for each image of a batch, uniform between +- the limits."""
    brightness = rng.uniform(-max_brightness, max_brightness, batch_size)
    return Light(brightness, 1.0 + rng.uniform(-max_contrast, max_contrast, batch_size))
