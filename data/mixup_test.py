"""Examples and targets are mixed alike, in pairs that do not depend on who asks."""

import numpy as np
import pytest

from data.dataset import Split
from data.loader import Loader
from data.mixup import Mixup

SIZE = 12


def _loader(mixup: Mixup | None, *, targets: np.ndarray | None = None) -> Loader:
    inputs = np.random.default_rng(0).random((30, 4), dtype=np.float32)
    classes = (np.arange(30) % 3).astype(np.int32)
    return Loader(Split(inputs, classes if targets is None else targets), SIZE, 5, mixup=mixup)


def test_is_the_paper_s_formula() -> None:
    plain, labels = _loader(None).batch(3)
    inputs, targets = _loader(Mixup(0.5, 3)).batch(3)
    assert targets.shape == (SIZE, 3)
    assert inputs.dtype == targets.dtype == np.float32
    one_hot = np.eye(3)[labels]
    for i, other in enumerate(reversed(range(SIZE))):
        # The share is what explains the input; the target must have the same.
        way = plain[i] - plain[other]
        share = np.dot(inputs[i] - plain[other], way) / np.dot(way, way)
        assert 0 <= share <= 1
        expected = share * plain[i] + (1 - share) * plain[other]
        np.testing.assert_allclose(inputs[i], expected, rtol=0, atol=1e-5)
        mixture = share * one_hot[i] + (1 - share) * one_hot[other]
        np.testing.assert_allclose(targets[i], mixture, rtol=0, atol=1e-4)


def test_numbers_are_mixed_as_they_are() -> None:
    targets = np.random.default_rng(1).random((30, 2), dtype=np.float32)
    mixture = _loader(Mixup(0.5, None), targets=targets).batch(0)[1]
    plain = _loader(None, targets=targets).batch(0)[1]
    assert mixture.shape == plain.shape
    assert not np.array_equal(mixture, plain)
    assert (mixture <= np.maximum(plain, plain[::-1]) + 1e-6).all()


@pytest.mark.parametrize("num_shares", [2, 3, 4, 12])
def test_shares_make_up_the_batch(num_shares: int) -> None:
    loader, size = _loader(Mixup(1.0, 3)), SIZE // num_shares
    shares = [loader.batch(2, slice(i * size, (i + 1) * size)) for i in range(num_shares)]
    for whole, parts in zip(loader.batch(2), zip(*shares, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_alpha_says_how_even_mixtures_are() -> None:
    rng = np.random.default_rng(0)
    uneven, even = (Mixup(alpha, 3).draw(2000, rng) for alpha in (0.1, 100.0))
    assert np.abs(even - 0.5).mean() < 0.05
    assert np.abs(uneven - 0.5).mean() > 0.4
