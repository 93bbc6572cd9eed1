"""The peak is that of this process, and stays when memory is given back."""

import numpy as np

from base.memory import peak_resident_bytes, resident_bytes


def test_grows_by_what_is_touched_and_stays() -> None:
    before, size = peak_resident_bytes(), 2**28
    touched = np.ones(size, np.uint8)
    after = peak_resident_bytes()
    del touched
    # What was resident may have been less than the peak when the array was made.
    assert 0 < after - before <= 1.1 * size
    assert peak_resident_bytes() > 0.99 * after  # the kernel counts in batches
    assert after > size


def test_what_is_resident_grows_and_shrinks() -> None:
    before, size = resident_bytes(), 2**28
    touched = np.ones(size, np.uint8)
    with_it = resident_bytes()
    assert 0.9 * size < with_it - before < 1.1 * size
    del touched
    assert resident_bytes() < with_it - 0.9 * size
    assert resident_bytes() <= peak_resident_bytes()
