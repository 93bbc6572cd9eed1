"""Batches are a pure function of (seed, step), and every example comes once an epoch."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.augment import random_affine
from data.dataset import Split
from data.loader import Loader


def _loader(size: int, batch_size: int, seed: int = 0) -> Loader:
    inputs = np.arange(size, dtype=np.float32)[:, np.newaxis]
    return Loader(Split(inputs, np.arange(size)), batch_size, seed)


class _Noise:
    """Adds what was drawn for each example of a batch."""

    def __init__(self, batch_size: int, rng: np.random.Generator):
        self._drawn = rng.normal(size=(batch_size, 1))

    def __getitem__(self, part: slice) -> Callable[[np.ndarray], np.ndarray]:
        drawn = self._drawn[part]
        return lambda inputs: inputs + drawn


def _noisy(size: int, batch_size: int, seed: int = 1) -> Loader:
    return replace(_loader(size, batch_size, seed), augment=_Noise)


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


def test_inputs_and_targets_stay_together() -> None:
    inputs, targets = _loader(20, 7).batch(5)
    np.testing.assert_array_equal(inputs[:, 0], targets)


@pytest.mark.parametrize("step", [0, 3, 1_000_000_007])
def test_a_step_can_be_sought_directly(step: int) -> None:
    walked = _noisy(10, 4)
    for earlier in range(min(step, 3)):
        walked.batch(earlier)
    for one, other in zip(walked.batch(step), _noisy(10, 4).batch(step), strict=True):
        np.testing.assert_array_equal(one, other)


def test_augmentation_differs_between_steps_and_seeds() -> None:
    drawn = [
        (inputs[:, 0] - targets).tobytes()
        for seed in (0, 1)
        for inputs, targets in (_noisy(4, 4, seed).batch(step) for step in (0, 1))
    ]
    assert len(set(drawn)) == 4


@pytest.mark.parametrize("num_shares", [1, 2, 3, 6])
def test_shares_make_up_the_batch(num_shares: int) -> None:
    loader = Loader(
        Split(np.random.default_rng(0).random((20, 9, 9, 1), dtype=np.float32), np.arange(20)),
        batch_size=12,
        seed=0,
        augment=partial(
            random_affine, max_shift_pixels=1.0, max_rotation_degrees=20.0, max_scale=0.2
        ),
    )
    size = 12 // num_shares
    shares = [loader.batch(7, slice(i * size, (i + 1) * size)) for i in range(num_shares)]
    for whole, parts in zip(loader.batch(7), zip(*shares, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_share_augments_only_its_own_examples() -> None:
    augmented = []

    class Recorded(_Noise):
        def __getitem__(self, part: slice) -> Callable[[np.ndarray], np.ndarray]:
            return lambda inputs: augmented.append(len(inputs)) or inputs

    replace(_loader(20, 12), augment=Recorded).batch(0, slice(3, 6))
    assert augmented == [3]
