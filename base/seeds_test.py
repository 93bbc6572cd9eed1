"""No two random streams share a number, and each is the same everywhere."""

import itertools

import numpy as np
import pytest

from base.seeds import STREAMS, seed_of, stream

_SEEDS = range(4)
_COUNTERS = range(8)
_NUM_DRAWN = 10_000


def _drawn(*identity: int | str) -> np.ndarray:
    seed, name, *counters = identity
    bits = stream(int(seed), str(name), *map(int, counters)).bit_generator
    return bits.random_raw(_NUM_DRAWN)


def _identities() -> list[tuple[int | str, ...]]:
    return [
        (seed, name, *counters)
        for seed in _SEEDS
        for name, counted in STREAMS.items()
        for counters in itertools.product(_COUNTERS, repeat=len(counted))
    ]


def test_no_two_streams_share_a_number() -> None:
    drawn = np.concatenate([_drawn(*identity) for identity in _identities()])
    # Of a million numbers of 64 bits, two are equal by chance in 1 of 10^7 such tests.
    assert len(np.unique(drawn)) == len(drawn)


def test_numpy_pads_with_zeros() -> None:
    """The reason for all this: what the streams were made of before."""
    numbers = {
        np.random.default_rng(entropy).bit_generator.random_raw()
        for entropy in (7, [7], [7, 0], [7, 0, 0])
    }
    assert len(numbers) == 1


def test_a_long_seed_is_no_seed_and_a_counter() -> None:
    # NumPy cuts what is longer than 32 bits into words, so 5 + 2**32 * 3 is [5, 3].
    assert not set(_drawn(5 + 2**32 * 3, "initial weights")) & set(_drawn(5, "batch order", 3))
    assert not set(_drawn(1, "batch order", 11)) & set(_drawn(11, "batch order", 1))
    assert not set(_drawn(2**64, "initial weights")) & set(_drawn(0, "initial weights"))


def test_a_stream_is_the_same_everywhere() -> None:
    # Of SHA-256 by `printf '["batch order", 3, 5]' | sha256sum` and NumPy's generator of it.
    digest = "cbef8c5ada01de74"
    assert f"{seed_of(3, 'batch order', 5):08x}" == digest[:8]
    again = np.random.default_rng(stream(3, "batch order", 5).bit_generator.seed_seq.entropy)
    np.testing.assert_array_equal(again.random(9), stream(3, "batch order", 5).random(9))
    np.testing.assert_array_equal(
        stream(np.int64(3), "batch order", 5).random(9), stream(3, "batch order", 5).random(9)
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, "weather"), ValueError, "no random stream is named 'weather'; expected one of"),
        ((0, "batch order"), ValueError, r"counts \['epoch'\], got \[\]"),
        ((0, "initial weights", 1), ValueError, r"counts \[\], got \[1\]"),
        ((-1, "initial weights"), ValueError, "must not be negative, got -1"),
        ((1.5, "initial weights"), TypeError, "must be an integer, got 1.5"),
        ((True, "initial weights"), TypeError, "must be an integer, got True"),
    ],
)
def test_refuses(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        stream(*arguments)  # type: ignore[arg-type]
