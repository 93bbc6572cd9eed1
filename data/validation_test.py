"""What is held out is never learnt, has its share of each class, and no text of what is learnt."""

import numpy as np
import pytest

from data.dataset import ExampleSpec, Split
from data.loader import Loader
from data.sources.stdlib_text import STDLIB_TEXT, StdlibTextOptions
from data.validation import hold_out

_LABELS = np.repeat(np.arange(4, dtype=np.int32), [40, 20, 100, 40])
_IMAGES = Split(np.arange(200.0), np.random.default_rng(0).permutation(_LABELS))
_SPEC = ExampleSpec("images", (), "float64", 4)


def test_each_class_has_its_share() -> None:
    rows = hold_out(_IMAGES, _SPEC, 0.1)
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(200))
    counts = np.bincount(_IMAGES.targets[rows.validation], minlength=4)
    np.testing.assert_allclose(counts, [4, 2, 10, 4], atol=1)
    assert counts.sum() == 20
    again = hold_out(_IMAGES, _SPEC, 0.1)
    np.testing.assert_array_equal(again.validation, rows.validation)


def test_numbers_are_drawn_at_random() -> None:
    points = Split(np.arange(50.0), np.zeros((50, 2), np.float32))
    rows = hold_out(points, ExampleSpec("points", (), "float64", None, (2,), "float32"), 0.3)
    assert (len(rows.learnt), len(rows.validation)) == (35, 15)
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(50))
    assert np.ptp(rows.validation) > 30


@pytest.mark.parametrize(("seq_len", "stride"), [(8, 8), (8, 3), (8, 1), (4, 9)])
def test_no_byte_of_a_text_is_in_both_parts(seq_len: int, stride: int) -> None:
    size = 60
    starts = stride * np.arange(size)
    positions = starts[:, None] + np.arange(seq_len)
    split = Split(positions, positions + 1)
    options = StdlibTextOptions(seq_len=seq_len, stride=stride)
    rows = hold_out(split, STDLIB_TEXT.describe(options), 0.2)
    assert len(rows.validation) == 12
    own, other = (
        set(split.inputs[part].ravel()) | set(split.targets[part].ravel()) for part in rows
    )
    assert not own & other
    lost = np.arange(rows.learnt[-1] + 1, rows.validation[0])
    assert len(lost) == max(1, seq_len // stride)
    assert rows.validation[-1] == size - 1


def test_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a share of 0\.999 leaves nothing to learn from of 200"):
        hold_out(_IMAGES, _SPEC, 0.999)
    assert len(hold_out(_IMAGES, _SPEC, 1e-6).validation) == 1


def test_a_loader_of_some_rows_gives_each_of_them_once_an_epoch() -> None:
    rows = hold_out(_IMAGES, _SPEC, 0.1)
    loader = Loader(_IMAGES, 20, 7, rows=rows.learnt)
    seen = np.concatenate([loader.batch(step)[0] for step in range(18)])
    for epoch in np.split(seen, 2):
        np.testing.assert_array_equal(np.sort(epoch), rows.learnt)


def test_some_rows_are_grouped_by_their_own_lengths() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, 64)
    tokens = np.where(np.arange(30) < lengths[:, None], 1, -1)
    rows = rng.permutation(64)[:32]
    loader = Loader(
        Split(tokens, np.arange(64)), 4, 0, rows=rows, group_by_length=True, pad_to_multiple_of=1
    )
    batches = [loader.batch(step) for step in range(8)]
    seen = np.concatenate([targets for _, targets in batches])
    np.testing.assert_array_equal(np.sort(seen), np.sort(rows))
    widths = sorted(inputs.shape[1] for inputs, _ in batches)
    assert widths == sorted(np.sort(lengths[rows])[3::4])
