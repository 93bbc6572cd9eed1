"""Peaks of steps whose memory is known."""

import os
import signal

import numpy as np
import pytest

from benchmarks.harness.memory import MemoryUnknownError, peak_bytes_in_child
from benchmarks.harness.timing import Step

MIB = 2**20
# The interpreter's own: small objects, and pages of the kernel's choosing.
SLACK = 4 * MIB


def _touch(mebibytes: int) -> np.ndarray:
    return np.ones(mebibytes * MIB, dtype=np.uint8)


def test_peak_of_an_allocation() -> None:
    peak = peak_bytes_in_child(lambda: Step(lambda: _touch(64)))
    assert abs(peak - 64 * MIB) < SLACK


def test_peak_counts_what_is_freed_before_the_end() -> None:
    def run() -> None:
        for _ in range(3):
            _touch(48)

    assert abs(peak_bytes_in_child(lambda: Step(run)) - 48 * MIB) < SLACK


def test_preparation_does_not_count() -> None:
    def prepare() -> Step:
        _touch(96)  # freed again
        kept = _touch(32)
        return Step(lambda: kept.sum())

    assert peak_bytes_in_child(prepare) < SLACK


def test_failure_is_told() -> None:
    def prepare() -> Step:
        raise ValueError("no such thing")

    with pytest.raises(MemoryUnknownError, match="ValueError: no such thing"):
        peak_bytes_in_child(prepare)


def test_death_is_told() -> None:
    step = Step(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(MemoryUnknownError, match="ended with status -9"):
        peak_bytes_in_child(lambda: step)
