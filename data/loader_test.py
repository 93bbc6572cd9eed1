"""Batches are a pure function of (seed, step), and every example comes once an epoch."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.augment.chain import draw
from data.augment.config import AugmentConfig
from data.dataset import PADDING, Split
from data.loader import Loader


def _loader(size: int, batch_size: int, seed: int = 0) -> Loader:
    inputs = np.arange(size, dtype=np.float32)[:, np.newaxis]
    return Loader(Split(inputs, np.arange(size)), batch_size, seed)


class _Noise:
    """Adds what was drawn for each example of a batch."""

    def __init__(self, batch_size: int, rng_of: Callable[[str], np.random.Generator]):
        self._drawn = rng_of("augmentation").normal(size=(batch_size, 1))

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
        augment=partial(draw, AugmentConfig(max_shift_pixels=1.0, max_scale=0.2)),
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


def _sequences(size: int, batch_size: int, **options: Any) -> Loader:
    """Sequences of 1 to 30 tokens, each of which says which sequence it is of."""
    lengths = np.random.default_rng(1).integers(1, 31, size)
    inside = np.arange(30) < lengths[:, np.newaxis]
    inputs = np.where(inside, np.arange(size)[:, np.newaxis], PADDING).astype(np.int32)
    return Loader(Split(inputs, inputs.copy()), batch_size, seed=3, **options)


@given(
    size=st.integers(1, 200),
    batch_size=st.integers(1, 16),
    multiple=st.sampled_from([1, 4, 7, 64]),
    grouped=st.booleans(),
)
def test_sequences_are_cut_to_the_longest_of_the_batch(
    size: int, batch_size: int, multiple: int, grouped: bool
) -> None:
    cut = _sequences(size, batch_size, pad_to_multiple_of=multiple, group_by_length=grouped)
    uncut = replace(cut, pad_to_multiple_of=None)
    for step in range(5):
        inputs, targets = cut.batch(step)
        whole, _ = uncut.batch(step)
        length = inputs.shape[1]
        assert length == 30 or length % multiple == 0
        assert (whole[:, length:] == PADDING).all()
        assert (inputs[:, max(0, length - multiple) :] != PADDING).any()
        np.testing.assert_array_equal(inputs, whole[:, :length])
        np.testing.assert_array_equal(targets, inputs)


def test_those_who_share_a_batch_get_one_length() -> None:
    loader = _sequences(100, 12, pad_to_multiple_of=1)
    for step in range(10):
        shares = [loader.batch(step, slice(i, i + 3)) for i in range(0, 12, 3)]
        for whole, parts in zip(loader.batch(step), zip(*shares, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_targets_of_no_sequence_are_not_cut() -> None:
    sequences = _sequences(20, 4).split.inputs
    loader = Loader(Split(sequences, np.arange(20)), 4, 0, pad_to_multiple_of=1)
    assert loader.batch(0)[1].shape == (4,)


@given(size=st.integers(1, 200), batch_size=st.integers(1, 16))
def test_grouped_by_length_each_comes_once_an_epoch(size: int, batch_size: int) -> None:
    loader = _sequences(size, batch_size, group_by_length=True)
    order = np.concatenate([loader.indices(step) for step in range(-(-size * 3 // batch_size))])
    for epoch in range(3):
        assert sorted(order[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_grouped_by_length_there_is_little_padding() -> None:
    def padding(grouped: bool) -> float:
        loader = _sequences(2000, 16, pad_to_multiple_of=1, group_by_length=grouped)
        batches = [loader.batch(step)[0] for step in range(250)]
        return sum((batch == PADDING).sum() for batch in batches) / sum(b.size for b in batches)

    assert padding(grouped=False) > 0.4
    assert padding(grouped=True) < 0.08


def test_grouped_by_length_batches_still_come_by_chance() -> None:
    loader = _sequences(2000, 16, group_by_length=True)
    lengths = [int((loader.batch(step)[0] != PADDING).sum(axis=1).max()) for step in range(100)]
    assert abs(np.corrcoef(lengths[:-1], lengths[1:])[0, 1]) < 0.3
    again = [loader.indices(step).tolist() for step in range(125)]
    later = [loader.indices(step).tolist() for step in range(125, 250)]
    assert not {tuple(sorted(batch)) for batch in again} & {tuple(sorted(b)) for b in later}
