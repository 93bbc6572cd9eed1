"""Batches are a pure function of (seed, step), and every example comes once an epoch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.loader import Loader


def _loader(size: int, batch_size: int, seed: int = 0) -> Loader:
    images = np.arange(size, dtype=np.float32)[:, np.newaxis]
    return Loader(images, np.arange(size), batch_size, seed)


@given(size=st.integers(1, 40), batch_size=st.integers(1, 100), seed=st.integers(0, 2**63 - 1))
def test_every_example_once_an_epoch(size: int, batch_size: int, seed: int) -> None:
    loader = _loader(size, batch_size, seed)
    num_epochs = 3
    num_steps = -(-size * num_epochs // batch_size)
    stream = np.concatenate([loader.indices(step) for step in range(num_steps)])
    for epoch in range(num_epochs):
        seen = stream[epoch * size : (epoch + 1) * size]
        assert sorted(seen) == list(range(size))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [tuple(_loader(50, 50, seed).indices(step)) for seed in (0, 1) for step in (0, 1)]
    assert len(set(orders)) == 4


def test_images_and_labels_stay_together() -> None:
    images, labels = _loader(20, 7).batch(5)
    np.testing.assert_array_equal(images[:, 0], labels)


@pytest.mark.parametrize("step", [0, 3, 1_000_000_007])
def test_a_step_can_be_sought_directly(step: int) -> None:
    def noise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return images + rng.normal(size=images.shape)

    walked = Loader(np.zeros((10, 2)), np.arange(10), 4, seed=1, augment=noise)
    for earlier in range(min(step, 3)):
        walked.batch(earlier)
    sought = Loader(np.zeros((10, 2)), np.arange(10), 4, seed=1, augment=noise)
    for one, other in zip(walked.batch(step), sought.batch(step), strict=True):
        np.testing.assert_array_equal(one, other)


def test_augmentation_differs_between_steps_and_seeds() -> None:
    def noise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(size=images.shape)

    drawn = [
        Loader(np.zeros((4, 1)), np.arange(4), 4, seed, noise).batch(step)[0].tobytes()
        for seed in (0, 1)
        for step in (0, 1)
    ]
    assert len(set(drawn)) == 4
