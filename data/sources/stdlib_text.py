"""Text that every machine has: the source of Python's own standard library, byte by byte.

About 8 MB of it. Left out are directories that not every installation has (tests, IDLE, Tk, and
what is packaged apart or removed in a later version), tables that are hardly language
(`encodings`, `pydoc_data`), and what other software installs. Versions of Python differ, so
results compare where `StdlibText.digest` is the same.
"""

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field

from base.config import MAX_INTEGER, Section
from base.seeds import stream
from data.dataset import Dataset, ExampleSpec, Source, Split

NUM_BYTES = 256
MAX_SEQ_LEN = 65536

_LEFT_OUT = frozenset(
    {
        "__pycache__",
        "dist-packages",
        "distutils",
        "encodings",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "tkinter",
        "turtledemo",
    }
)
# Written when Python is built: different on each machine.
_BUILD_TIME_PREFIX = "_sysconfigdata"
_FILES_TO_ONE_HELD_OUT = 20


class StdlibTextOptions(Section):
    """How the text is cut into examples: windows of it, and for each byte the one that follows."""

    seq_len: int = Field(default=256, ge=1, le=MAX_SEQ_LEN, description="bytes in an example")
    stride: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTEGER,
        description="bytes from the start of one example to train on to that of the next; null: "
        "seq_len, so that no byte is predicted twice an epoch",
    )
    max_bytes: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTEGER,
        description="read no more of the library's source, for both splits together; null: all",
    )
    max_held_out_bytes: int | None = Field(
        default=None,
        ge=2,
        le=MAX_INTEGER,
        description="evaluate on no more than the start of the held-out text; null: on all of it",
    )


class StdlibNotFoundError(RuntimeError):
    """The standard library's source is not there; the message says where it was looked for."""


@dataclass(frozen=True)
class StdlibText:
    """The data set: `train` to learn from, `held_out` from other files.

    Attributes:
        train: `[num_bytes]` uint8, read-only.
        held_out: `[num_bytes]` uint8, read-only.
    """

    train: np.ndarray
    held_out: np.ndarray

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of every byte of both splits in order: it names exactly this data."""
        sha256 = hashlib.sha256()
        for split in (self.train, self.held_out):
            sha256.update(len(split).to_bytes(8, "little"))
            sha256.update(split.tobytes())
        return sha256.hexdigest()


@dataclass(frozen=True)
class Windows:
    """Batches of windows at random positions, each batch a pure function of (seed, step).

    Attributes:
        text: `[num_bytes]` uint8.
        batch_size: Windows in every batch, >= 1.
        seq_len: A window is one byte longer: inputs and targets are `window[:-1]`, `window[1:]`.
        seed: Of the positions, >= 0.
    """

    text: np.ndarray
    batch_size: int
    seq_len: int
    seed: int

    def __post_init__(self) -> None:
        _check_fits(self.text, self.seq_len)

    def batch(self, step: int) -> np.ndarray:
        """Returns `[batch_size, seq_len + 1]` uint8, the windows of step `step`, from 0."""
        rng = stream(self.seed, "text windows", step)
        starts = rng.integers(0, len(self.text) - self.seq_len, self.batch_size)
        return _cut(self.text, starts, self.seq_len)


def load(root: Path | None = None, *, max_bytes: int | None = None) -> StdlibText:
    """Reads the source and splits it by file: every twentieth is held out, whole.

    Files are taken in the order of a hash of their relative path, which shuffles them the same way
    everywhere; which files are held out does not depend on `max_bytes`.

    Args:
        root: The library's directory; by default that of the Python that runs.
        max_bytes: Stop after so many, counting both splits; by default read all.

    Raises:
        StdlibNotFoundError: There is no source under `root`, or not enough of it to split.
        ValueError: `max_bytes` is not positive.
    """
    if max_bytes is not None and max_bytes < 1:
        raise ValueError(f"max_bytes must be positive, got {max_bytes}")
    root = Path(sysconfig.get_path("stdlib")) if root is None else root
    left = float("inf") if max_bytes is None else max_bytes
    splits: tuple[list[bytes], list[bytes]] = ([], [])
    for is_held_out, path in _shuffled(root):
        content = path.read_bytes()
        content = content if len(content) <= left else content[: int(left)]
        splits[is_held_out].append(content)
        left -= len(content)
        if left <= 0:
            break
    train, held_out = (np.frombuffer(b"".join(split), np.uint8) for split in splits)
    if not len(train) or not len(held_out):
        raise StdlibNotFoundError(
            f"found {len(train)} bytes of Python source to train on and {len(held_out)} to hold "
            f"out under {root}; install the standard library's .py files there or name another "
            "directory" + ("" if max_bytes is None else f", or raise max_bytes ({max_bytes})")
        )
    return StdlibText(train, held_out)


def held_out_text(options: StdlibTextOptions) -> np.ndarray:
    """Returns `[num_bytes]` uint8, the held-out text: all but its first byte are predicted, once.

    It is cut to whole windows. What a compressor makes of it compares with a model's loss.

    Raises:
        StdlibNotFoundError: The text is not there, or is too short for one window.
    """
    return _held_out(load(max_bytes=options.max_bytes), options)


def _held_out(text: StdlibText, options: StdlibTextOptions) -> np.ndarray:
    limited = text.held_out[: options.max_held_out_bytes]
    num_windows = (len(limited) - 1) // options.seq_len
    if num_windows < 1:
        raise StdlibNotFoundError(
            f"data.options: the held-out text has {len(limited)} bytes, too few for a window of "
            f"seq_len {options.seq_len} and the byte after it; lower seq_len, or raise max_bytes "
            "or max_held_out_bytes"
        )
    return limited[: num_windows * options.seq_len + 1]


def _load(options: StdlibTextOptions) -> Dataset:
    text = load(max_bytes=options.max_bytes)
    return Dataset(
        train=_next_bytes(text.train, options.seq_len, options.stride or options.seq_len),
        test=_next_bytes(_held_out(text, options), options.seq_len, options.seq_len),
    )


def _next_bytes(text: np.ndarray, seq_len: int, stride: int) -> Split:
    """Makes examples of a text; they are views of one copy of it, however much they overlap."""
    _check_fits(text, seq_len)
    wide = text.astype(np.int32)
    inputs, targets = (
        sliding_window_view(part, seq_len)[::stride] for part in (wide[:-1], wide[1:])
    )
    return Split(inputs, targets)


def _describe(options: StdlibTextOptions) -> ExampleSpec:
    shape = (options.seq_len,)
    return ExampleSpec(
        "windows",
        shape,
        "int32",
        NUM_BYTES,
        target_shape=shape,
        # Those that begin no later than its last target, or else the next one of the same file.
        num_neighbours=max(1, options.seq_len // (options.stride or options.seq_len)),
        bytes_per_token=1.0,
    )


def spread_windows(text: np.ndarray, count: int, seq_len: int) -> np.ndarray:
    """Returns `[count, seq_len + 1]` uint8, windows at even distances: a fixed sample of a text.

    Raises:
        ValueError: The text is shorter than a window.
    """
    _check_fits(text, seq_len)
    starts = np.arange(count) * (len(text) - seq_len) // count
    return _cut(text, starts, seq_len)


def _shuffled(root: Path) -> Iterator[tuple[bool, Path]]:
    """Yields (is held out, path) in the order of the paths' hashes."""
    hashed = sorted(
        (hashlib.sha256(path.encode()).digest(), path) for path in _relative_paths(root)
    )
    for digest, path in hashed:
        # Bits that do not decide the order, so that both splits come from everywhere in it.
        yield int.from_bytes(digest[-8:], "little") % _FILES_TO_ONE_HELD_OUT == 0, root / path


def _relative_paths(root: Path) -> Iterator[str]:
    """Yields the paths of the sources under `root`, with "/" between their parts."""
    for directory, subdirectories, files in os.walk(root):
        subdirectories[:] = [name for name in subdirectories if name not in _LEFT_OUT]
        for name in files:
            if name.endswith(".py") and not name.startswith(_BUILD_TIME_PREFIX):
                yield Path(directory, name).relative_to(root).as_posix()


def _check_fits(text: np.ndarray, seq_len: int) -> None:
    if not 1 <= seq_len < len(text):
        raise ValueError(
            f"seq_len must be positive and less than the text's {len(text)} bytes, got {seq_len}"
        )


def _cut(text: np.ndarray, starts: np.ndarray, seq_len: int) -> np.ndarray:
    return text[starts[:, np.newaxis] + np.arange(seq_len + 1)]


STDLIB_TEXT = Source("stdlib_text", StdlibTextOptions, _describe, _load)
