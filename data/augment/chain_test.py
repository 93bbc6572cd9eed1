"""Each kind does to an image what its definition says, and draws for each image alone."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from base.seeds import stream
from data.augment.chain import draw
from data.augment.config import AugmentConfig
from data.augment.crop import Crop
from data.augment.cutout import Cutout
from data.augment.flip import Flip
from data.augment.light import Light
from data.augment.noise import Noise

BATCH = 24

# Every key, with a value that shows.
EACH = {
    "horizontal_flip_rate": 0.5,
    "crop_padding": 2,
    "max_shift_pixels": 2.0,
    "max_rotation_degrees": 40.0,
    "max_scale": 0.3,
    "max_brightness": 0.3,
    "max_contrast": 0.5,
    "noise_stddev": 0.1,
    "cutout_pixels": 3,
}


def _images(count: int = BATCH) -> np.ndarray:
    return np.random.default_rng(0).random((count, 7, 9, 2), dtype=np.float32)


def _apply(
    images: np.ndarray, part: slice = slice(None), seed: int = 0, step: int = 0, **limits: float
) -> np.ndarray:
    def rng_of(name: str) -> np.random.Generator:
        return stream(seed, name, step)

    chain = draw(AugmentConfig.model_validate(limits), len(images), rng_of)
    return chain[part](images[part])


def _flipped(images: np.ndarray) -> np.ndarray:
    mirrored = images.copy()
    for column in range(9):
        mirrored[1, :, column] = images[1, :, 8 - column]
    return mirrored


def _cropped(images: np.ndarray) -> np.ndarray:
    moved = np.zeros_like(images)
    moved[0, 1:] = images[0, :-1]  # one row less above: the window starts one row higher
    moved[1, :, :-2] = images[1, :, 2:]
    return moved


def _with_hole(images: np.ndarray) -> np.ndarray:
    cleared = images.copy()
    cleared[0, 2:5, 3:6] = 0
    cleared[1, :2, :2] = 0
    return cleared


def _lit(images: np.ndarray) -> np.ndarray:
    changed = images.copy()
    changed[0] += 0.25
    for channel in range(2):
        values = images[1, :, :, channel]
        changed[1, :, :, channel] = values.mean() + 0.5 * (values - values.mean())
    return changed


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Flip(np.array([False, True])), _flipped),
        (Crop(np.array([[1, 2], [2, 4]]), padding=2), _cropped),
        (Cutout(np.array([[3 / 7, 0.0], [4 / 9, 0.0]]), pixels=3), _with_hole),
        (Light(np.array([0.25, 0.0]), np.array([1.0, 0.5])), _lit),
    ],
    ids=["flip", "crop", "cutout", "light"],
)
def test_does_what_it_says(
    change: Callable[[np.ndarray], np.ndarray], expected: Callable[[np.ndarray], np.ndarray]
) -> None:
    images = _images(2)
    np.testing.assert_allclose(change(images), expected(images), rtol=0, atol=1e-6)


def test_noise_is_normal_and_each_images_own() -> None:
    images = np.zeros((50, 20, 20, 1), np.float32)
    noise = Noise(np.arange(50), 0.3)(images)
    assert np.std(noise) == pytest.approx(0.3, rel=0.02)
    assert abs(noise.mean()) < 0.01
    assert len({image.tobytes() for image in noise}) == 50


@pytest.mark.parametrize("key", EACH)
def test_a_key_alone_changes_images_each_in_a_way_of_its_own(key: str) -> None:
    images = np.repeat(_images(1), BATCH, axis=0)
    augmented = _apply(images, **{key: EACH[key]})
    assert augmented.shape == images.shape
    assert augmented.dtype == np.float32
    assert not np.array_equal(augmented, images)
    different = len({image.tobytes() for image in augmented})
    assert different == 2 if key == "horizontal_flip_rate" else different > 10


def test_without_limits_nothing_changes() -> None:
    np.testing.assert_array_equal(_apply(_images()), _images())


@pytest.mark.parametrize("num_shares", [2, 3, 8])
def test_shares_make_up_the_batch(num_shares: int) -> None:
    size = BATCH // num_shares
    apply = partial(_apply, _images(), **EACH)
    shares = [apply(slice(i * size, (i + 1) * size)) for i in range(num_shares)]
    np.testing.assert_array_equal(np.concatenate(shares), apply(slice(None)))


@pytest.mark.parametrize("key", ["crop_padding", "max_shift_pixels", "cutout_pixels"])
def test_what_one_draws_does_not_depend_on_another(key: str) -> None:
    images = _images()
    mirrored = _apply(images, horizontal_flip_rate=1.0)
    np.testing.assert_array_equal(
        _apply(images, horizontal_flip_rate=1.0, **{key: EACH[key]}),
        _apply(mirrored, **{key: EACH[key]}),
    )


def test_draws_differ_between_seeds_and_steps() -> None:
    for key, value in EACH.items():
        drawn = {
            _apply(_images(), seed=seed, step=step, **{key: value}).tobytes()
            for seed in (0, 1)
            for step in (0, 1)
        }
        assert len(drawn) == 4, key
