"""Named random streams of one seed, of which no two share a number.

    rng = stream(run.seed, "batch order", epoch)

NumPy's own `default_rng([seed, a, b])` pads with zeros, so that `[seed]`, `[seed, 0]` and
`[seed, 0, 0]` are one stream, and a counter of one use can equal the tag of another. Here a stream
is the hash of its seed, its name and its counters: equal for equal ones, on every machine and in
every version of Python, and otherwise unrelated.
"""

import hashlib
import json

import numpy as np

# All uses of a run's seed, with what their counters count.
STREAMS = {
    "initial weights": (),
    "batch order": ("epoch",),
    "augmentation": ("step",),
    "flips": ("step",),
    "crops": ("step",),
    "light": ("step",),
    "pixel noise": ("step",),
    "cutouts": ("step",),
    "mixtures": ("step",),
    "dropout": ("step",),
    "label noise": ("step",),
    "sampled labels": (),
    "text windows": ("step",),
    "validation": (),
    "drawn task": (),
    "drawn examples": ("split",),
    "gradient rounding": (),
}


def stream(seed: int, name: str, *counters: int) -> np.random.Generator:
    """Returns the generator of one use of a seed, at its start.

    Args:
        seed: Of the run, >= 0, of any length.
        name: One of `STREAMS`.
        *counters: >= 0, as many as the table says.

    Raises:
        TypeError: The seed or a counter is no integer.
        ValueError: The name is not in the table, or a number is negative or of another count.
    """
    return np.random.default_rng(_entropy(seed, name, counters))


def seed_of(seed: int, name: str, *counters: int) -> int:
    """Returns a seed in [0, 2^32) for what is no NumPy generator: a kernel, torch, a JAX key.

    Args and errors are those of `stream`. Of 32 bits two streams can have the same by chance.
    """
    return _entropy(seed, name, counters) >> 224


def _entropy(seed: int, name: str, counters: tuple[int, ...]) -> int:
    """Returns 256 bits: whoever finds two equal ones has broken SHA-256."""
    if name not in STREAMS:
        raise ValueError(f"no random stream is named {name!r}; expected one of {sorted(STREAMS)}")
    if len(counters) != len(STREAMS[name]):
        raise ValueError(
            f"the random stream {name!r} counts {list(STREAMS[name])}, got {list(counters)}"
        )
    numbers = [_whole(number) for number in (seed, *counters)]
    # JSON is unambiguous: no two lists are written alike.
    encoded = json.dumps([name, *numbers]).encode()
    return int.from_bytes(hashlib.sha256(encoded).digest(), "big")


def _whole(number: int) -> int:
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
        raise TypeError(f"a seed or counter must be an integer, got {number!r}")
    if number < 0:
        raise ValueError(f"a seed or counter must not be negative, got {number}")
    return int(number)
