"""All that happens to the images of a batch, one thing after the other.

Each kind draws from a stream of its own: turning one on or off leaves what others draw as it was.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from data.augment.affine import random_affine
from data.augment.config import AugmentConfig
from data.augment.crop import random_crop
from data.augment.cutout import random_cutout
from data.augment.flip import random_flip
from data.augment.light import random_light
from data.augment.noise import random_noise
from data.loader import Augmentation


@dataclass(frozen=True)
class Chain:
    """What was drawn for a batch, in order.

    Attributes:
        links: One a kind.
    """

    links: tuple[Augmentation, ...]

    def __getitem__(self, part: slice) -> Callable[[np.ndarray], np.ndarray]:
        """Returns what happens to a part of the batch."""
        links = [link[part] for link in self.links]

        def apply(images: np.ndarray) -> np.ndarray:
            for link in links:
                images = link(images)
            return images

        return apply


def draw(
    config: AugmentConfig, batch_size: int, rng_of: Callable[[str], np.random.Generator]
) -> Chain:
    """Draws what happens to each image of a batch.

    Args:
        config: What may happen.
        batch_size: Number of images.
        rng_of: Returns the generator of a stream of `base.seeds`, at its start.
    """
    return Chain(tuple(_links(config, batch_size, rng_of)))


def _links(
    config: AugmentConfig, batch_size: int, rng_of: Callable[[str], np.random.Generator]
) -> Iterator[Augmentation]:
    if config.horizontal_flip_rate:
        yield random_flip(batch_size, rng_of("flips"), rate=config.horizontal_flip_rate)
    if config.crop_padding:
        yield random_crop(batch_size, rng_of("crops"), padding=config.crop_padding)
    if config.max_shift_pixels or config.max_rotation_degrees or config.max_scale:
        yield random_affine(
            batch_size,
            rng_of("augmentation"),
            max_shift_pixels=config.max_shift_pixels,
            max_rotation_degrees=config.max_rotation_degrees,
            max_scale=config.max_scale,
        )
    if config.max_brightness or config.max_contrast:
        yield random_light(
            batch_size,
            rng_of("light"),
            max_brightness=config.max_brightness,
            max_contrast=config.max_contrast,
        )
    if config.noise_stddev:
        yield random_noise(batch_size, rng_of("pixel noise"), stddev=config.noise_stddev)
    if config.cutout_pixels:
        yield random_cutout(batch_size, rng_of("cutouts"), pixels=config.cutout_pixels)
