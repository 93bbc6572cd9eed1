"""The warp agrees with scipy's, moves what it should, and draws only from its generator."""

import numpy as np
import pytest
from scipy import ndimage

from data.augment.affine import Affine, random_affine

# Both interpolate in about 1e-7 relative; positions near a pixel's edge amplify it.
TOLERANCE = 1e-5


def _images(count: int = 6, size: int = 9, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(0).random((count, size, size, channels), dtype=np.float32)


def _warp(images: np.ndarray, seed: int = 0, **limits: float) -> np.ndarray:
    limits = {"max_shift_pixels": 0.0, "max_rotation_degrees": 0.0, "max_scale": 0.0} | limits
    return random_affine(len(images), np.random.default_rng(seed), **limits)(images)


def test_without_limits_nothing_changes() -> None:
    images = _images()
    np.testing.assert_array_equal(_warp(images), images)


@pytest.mark.parametrize("degrees", [-30.0, 7.0])
@pytest.mark.parametrize("scale", [0.8, 1.3])
def test_matches_scipy(degrees: float, scale: float) -> None:
    images = _images()
    shift = np.array([0.7, -1.6])
    angle = np.deg2rad(degrees)
    turn = np.array([np.cos(angle), np.sin(angle)]) / scale
    batch = np.ones(len(images))
    warped = Affine(shift[:, np.newaxis] * batch, turn[:, np.newaxis] * batch)(images)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    matrix = np.array([[cos, -sin], [sin, cos]])
    centre = np.array([4.0, 4.0])
    offset = centre - matrix @ centre + shift
    for image, result in zip(images, warped, strict=True):
        for channel in range(images.shape[-1]):
            expected = ndimage.affine_transform(
                image[..., channel], matrix, offset, order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(result[..., channel], expected, atol=TOLERANCE)


@pytest.mark.parametrize("shift", [(1, -2), (8, 0), (9, -9), (-10, 3), (40, -40)])
def test_whole_shifts_move_pixels_as_they_are(shift: tuple[int, int]) -> None:
    images = _images()
    down, right = shift
    padded = np.pad(images, ((0, 0), (40, 40), (40, 40), (0, 0)))
    expected = padded[:, 40 + down : 49 + down, 40 + right : 49 + right]
    ones = np.ones(len(images))
    warped = Affine(np.outer(shift, ones), np.outer((1.0, 0.0), ones))(images)
    np.testing.assert_array_equal(warped, expected)


def test_each_image_of_many_is_warped_as_it_is_alone() -> None:
    images = _images(count=40, size=28)
    limits = {"max_shift_pixels": 3.0, "max_rotation_degrees": 20.0, "max_scale": 0.2}
    drawn = random_affine(len(images), np.random.default_rng(0), **limits)
    alone = [drawn[number : number + 1](images[number : number + 1]) for number in range(40)]
    np.testing.assert_array_equal(drawn(images), np.concatenate(alone))


def test_each_image_moves_by_an_amount_of_its_own() -> None:
    images = np.repeat(_images(1), 8, axis=0)
    warped = _warp(images, max_shift_pixels=1.0)
    assert len({image.tobytes() for image in warped}) == 8


def test_depends_on_the_generator_alone() -> None:
    limits = {"max_shift_pixels": 1.0, "max_rotation_degrees": 20.0, "max_scale": 0.2}
    first, again, other = (_warp(_images(), seed, **limits) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_keeps_shape_dtype_and_range() -> None:
    limits = {"max_shift_pixels": 20.0, "max_rotation_degrees": 180.0, "max_scale": 0.9}
    warped = _warp(_images(), **limits)
    assert warped.shape == _images().shape
    assert warped.dtype == np.float32
    assert warped.min() >= 0.0
    assert warped.max() <= 1.0
