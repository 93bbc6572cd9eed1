"""The text is the library's source, split by file; batches are a pure function of (seed, step)."""

import tokenize
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.array_utils import byte_bounds

from data.sources import stdlib_text
from data.sources.stdlib_text import (
    STDLIB_TEXT,
    StdlibNotFoundError,
    StdlibTextOptions,
    Windows,
    held_out_text,
    spread_windows,
)


def _library(root: Path, num_files: int = 100) -> dict[str, bytes]:
    """Writes a small library whose every file has bytes of its own; returns them by path."""
    contents = {f"package{i % 3}/module{i}.py": b"%03d\n" % i * 10 for i in range(num_files)}
    for path, content in contents.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(content)
    return contents


def test_reads_what_this_python_runs() -> None:
    text = stdlib_text.load()
    both = text.train.tobytes() + text.held_out.tobytes()
    source = Path(tokenize.__file__).read_bytes()
    assert both.count(source) == 1
    assert 4e6 < len(both) < 3e7
    share = len(text.held_out) / len(both)
    assert 0.01 < share < 0.12  # one file in twenty, and files are of very different sizes
    assert stdlib_text.load().digest == text.digest


def test_every_file_is_in_one_split_whole(tmp_path: Path) -> None:
    contents = _library(tmp_path)
    text = stdlib_text.load(tmp_path)
    train, held_out = text.train.tobytes(), text.held_out.tobytes()
    for content in contents.values():
        assert sorted([train.count(content), held_out.count(content)]) == [0, 1]
    assert len(train) + len(held_out) == sum(map(len, contents.values()))
    assert len(held_out) < len(train) / 4


def test_nothing_but_the_library(tmp_path: Path) -> None:
    _library(tmp_path)
    digest = stdlib_text.load(tmp_path).digest
    for left_out in (
        "site-packages/other.py",
        "package0/test/more.py",
        "package1/__pycache__/cached.py",
        "_sysconfigdata__linux.py",
        "package0/data.txt",
    ):
        (tmp_path / left_out).parent.mkdir(exist_ok=True)
        (tmp_path / left_out).write_bytes(b"not of the library")
    assert stdlib_text.load(tmp_path).digest == digest
    (tmp_path / "package0" / "new.py").write_bytes(b"of the library")
    assert stdlib_text.load(tmp_path).digest != digest


def test_order_of_the_directory_does_not_count(tmp_path: Path) -> None:
    for name, reverse in (("one", False), ("other", True)):
        for path in sorted((f"m{i}.py" for i in range(99)), reverse=reverse):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / path).write_text(path)
    one, other = (stdlib_text.load(tmp_path / name).digest for name in ("one", "other"))
    assert one == other


def test_a_limit_takes_the_first_of_the_same_split(tmp_path: Path) -> None:
    _library(tmp_path)
    whole, part = stdlib_text.load(tmp_path), stdlib_text.load(tmp_path, max_bytes=2001)
    assert len(part.train) + len(part.held_out) == 2001
    assert whole.train.tobytes().startswith(part.train.tobytes())
    assert whole.held_out.tobytes().startswith(part.held_out.tobytes())


def test_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(StdlibNotFoundError, match=str(tmp_path)):
        stdlib_text.load(tmp_path)
    _library(tmp_path)
    with pytest.raises(StdlibNotFoundError, match=r"raise max_bytes \(1\)"):
        stdlib_text.load(tmp_path, max_bytes=1)
    with pytest.raises(ValueError, match="max_bytes must be positive, got 0"):
        stdlib_text.load(tmp_path, max_bytes=0)


def test_windows_are_pieces_of_the_text() -> None:
    text = np.random.default_rng(0).integers(0, 256, 500, np.uint8)
    batch = Windows(text, batch_size=64, seq_len=9, seed=1).batch(3)
    assert batch.shape == (64, 10) and batch.dtype == np.uint8
    assert all(window.tobytes() in text.tobytes() for window in batch)


def test_every_position_can_come() -> None:
    text = np.arange(12, dtype=np.uint8)
    batches = [Windows(text, batch_size=50, seq_len=9, seed=0).batch(step) for step in range(5)]
    assert set(np.concatenate(batches)[:, 0]) == {0, 1, 2}


def test_batches_depend_on_seed_and_step_alone() -> None:
    text = np.arange(200, dtype=np.uint8)
    batches = [
        Windows(text, 8, 4, seed).batch(step).tobytes() for seed in (0, 1) for step in (0, 10**9)
    ]
    assert len(set(batches)) == 4
    assert Windows(text, 8, 4, 1).batch(10**9).tobytes() == batches[3]


def test_spread_windows_cover_the_text() -> None:
    windows = spread_windows(np.arange(101, dtype=np.uint8), count=10, seq_len=10)
    np.testing.assert_array_equal(windows[:, 0], np.arange(10) * 9)
    assert windows.shape == (10, 11)
    with pytest.raises(ValueError, match="less than the text's 5 bytes, got 5"):
        spread_windows(np.zeros(5, np.uint8), count=1, seq_len=5)
    with pytest.raises(ValueError, match="seq_len must be positive"):
        Windows(np.zeros(5, np.uint8), 1, 0, 0)


def test_text_cannot_be_written() -> None:
    text = stdlib_text.load(max_bytes=10**6)
    assert not text.train.flags.writeable and not text.held_out.flags.writeable


def _examples(**options: int | None) -> tuple[np.ndarray, StdlibTextOptions]:
    given = StdlibTextOptions.model_validate({"max_bytes": 10**6, **options})
    return stdlib_text.load(max_bytes=10**6).train, given


def test_a_target_is_the_byte_that_follows() -> None:
    text, options = _examples(seq_len=10)
    train = STDLIB_TEXT.load(options).train
    assert train.inputs.dtype == train.targets.dtype == np.int32
    assert train.inputs.shape == train.targets.shape == ((len(text) - 1) // 10, 10)
    np.testing.assert_array_equal(train.inputs[7], text[70:80])
    np.testing.assert_array_equal(train.targets[7], text[71:81])


def test_windows_may_overlap_and_take_no_memory_for_it() -> None:
    text, options = _examples(seq_len=100, stride=1)
    train = STDLIB_TEXT.load(options).train
    assert len(train) == len(text) - 100
    np.testing.assert_array_equal(train.targets[123], text[124:224])
    low, high = byte_bounds(train.inputs)
    assert high - low < 5e6 < train.inputs.nbytes
    assert not train.inputs.flags.writeable


@pytest.mark.parametrize("limit", [None, 1000])
def test_held_out_bytes_are_predicted_once_each(limit: int | None) -> None:
    _, options = _examples(seq_len=64, max_held_out_bytes=limit)
    text, test = held_out_text(options), STDLIB_TEXT.load(options).test
    np.testing.assert_array_equal(test.targets.ravel(), text[1:])
    np.testing.assert_array_equal(test.inputs.ravel(), text[:-1])
    whole = stdlib_text.load(max_bytes=10**6).held_out
    assert whole.tobytes().startswith(text.tobytes())
    assert 0 <= min(len(whole), limit or len(whole)) - len(text) < 64


def test_says_what_fits_a_text_that_is_too_short() -> None:
    with pytest.raises(StdlibNotFoundError, match=r"has 50 bytes, too few .* seq_len 64"):
        STDLIB_TEXT.load(_examples(seq_len=64, max_held_out_bytes=50)[1])


def test_is_described_as_it_is() -> None:
    _, options = _examples(seq_len=32)
    spec, train = STDLIB_TEXT.describe(options), STDLIB_TEXT.load(options).train
    assert (spec.input_shape, spec.target_shape) == (train.inputs[0].shape, train.targets[0].shape)
    assert (spec.input_dtype, spec.target_dtype) == (train.inputs.dtype, train.targets.dtype)
    assert spec.num_classes == 256
