"""Random walks over tokens, of which a different number counts in each."""

import numpy as np

from base.config import Section
from data.dataset import Dataset, ExampleSpec, Source, Split

_VOCAB_SIZE, _SEQ_LEN, _NUM_TRAIN, _NUM_TEST = 13, 6, 96, 20


class WalksOptions(Section):
    """The walks as they are: there is nothing to choose."""


def _load(options: WalksOptions) -> Dataset:
    rng = np.random.default_rng(0)
    count = _NUM_TRAIN + _NUM_TEST
    steps = rng.integers(1, 3, (count, _SEQ_LEN + 1))
    walks = (steps.cumsum(axis=1) % _VOCAB_SIZE).astype(np.int32)
    inputs, targets = walks[:, :-1].copy(), walks[:, 1:].copy()
    # From none to all of them.
    lengths = rng.integers(0, _SEQ_LEN + 1, count)
    targets[np.arange(_SEQ_LEN) >= lengths[:, np.newaxis]] = -1
    return Dataset(
        Split(inputs[:_NUM_TRAIN], targets[:_NUM_TRAIN]),
        Split(inputs[_NUM_TRAIN:], targets[_NUM_TRAIN:]),
    )


def _describe(options: WalksOptions) -> ExampleSpec:
    shape = (_SEQ_LEN,)
    return ExampleSpec("walks", shape, "int32", _VOCAB_SIZE, target_shape=shape)


WALKS = Source("test_walks", WalksOptions, _describe, _load)
