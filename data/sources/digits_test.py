"""The data set is what its source says, and its split is fixed, disjoint and stratified."""

import numpy as np
from sklearn.datasets import load_digits

from data.dataset import Dataset, Split
from data.sources import digits

DATA = digits.load()

# Of the exact bytes of both splits. A change means that accuracies no longer compare.
DIGEST = "2fb75edb7a441932951427c894c7ad2addfcc79a33f8a5d27bd32bfab631abbe"


def _rows(split: Split) -> list[tuple[float, ...]]:
    flat = np.concatenate(
        [split.inputs.reshape(len(split), -1) * 16, split.targets[:, np.newaxis]], axis=1
    )
    return sorted(map(tuple, flat.tolist()))


def test_shapes_types_and_range() -> None:
    for split, size in ((DATA.train, 1437), (DATA.test, 360)):
        assert split.inputs.shape == (size, *digits.IMAGE_SHAPE)
        assert split.inputs.dtype == np.float32
        assert split.targets.shape == (size,)
        assert split.targets.dtype == np.int32
        assert split.inputs.min() == 0.0
        assert split.inputs.max() == 1.0


def test_the_two_splits_together_are_the_source() -> None:
    source = load_digits()
    together = _rows(DATA.train) + _rows(DATA.test)
    rows = np.concatenate([source.data, source.target[:, np.newaxis]], axis=1)
    assert sorted(together) == sorted(map(tuple, rows.tolist()))


def test_split_is_stratified() -> None:
    train_counts = np.bincount(DATA.train.targets, minlength=digits.NUM_CLASSES)
    test_counts = np.bincount(DATA.test.targets, minlength=digits.NUM_CLASSES)
    expected = (train_counts + test_counts) * len(DATA.test) / 1797
    assert np.abs(test_counts - expected).max() <= 1.0


def test_digest_names_these_bytes() -> None:
    assert DATA.digest == DIGEST
    assert digits.load().digest == DIGEST


def test_digest_sees_one_changed_pixel() -> None:
    images = DATA.test.inputs.copy()
    images[-1, -1, -1, 0] += 1 / 16
    changed = Dataset(DATA.train, Split(images, DATA.test.targets))
    assert changed.digest != DIGEST


def test_data_cannot_be_written() -> None:
    assert not DATA.train.inputs.flags.writeable
    assert not DATA.test.targets.flags.writeable
