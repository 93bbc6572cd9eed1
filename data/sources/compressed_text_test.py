"""The figure is what a file of the compressor weighs."""

import numpy as np

from data.sources.compressed_text import bz2_bits_per_byte, report
from data.sources.stdlib_text import StdlibTextOptions


def test_is_that_of_random_bytes_and_of_repeated_ones() -> None:
    random = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8)
    assert 8.0 < bz2_bits_per_byte(random) < 8.1  # they cannot be compressed
    assert bz2_bits_per_byte(np.zeros(100_000, np.uint8)) < 0.01


def test_names_the_text() -> None:
    options = StdlibTextOptions.model_validate({"max_bytes": 2 * 10**6, "seq_len": 100})
    lines = report(options).splitlines()
    assert "bytes, SHA-256 " in lines[0]
    assert 1.0 < float(lines[1].split()[2]) < 3.0  # source code, by experience
