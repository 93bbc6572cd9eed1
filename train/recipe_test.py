"""What a run draws at random comes from streams of its own, whatever the step and the epoch."""

import numpy as np
import pytest

from base.seeds import seed_of
from data.sources import digits
from models.weights import init_weights
from optim.sophia import Sophia
from train.recipe import batch_of, training_batches
from train.testing.example import short_config

_NUM_EPOCHS = 7
# The first ones, and those in which an epoch begins: 1,437 images in batches of 64.
_STEPS = sorted({*range(7), *(epoch * 1437 // 64 for epoch in range(_NUM_EPOCHS))})
_FIRST_NUMBERS = 1_000


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The first numbers of every generator that has been made since."""
    digits.load()  # What it imports makes generators of its own.
    made: list[np.ndarray] = []
    real = np.random.default_rng

    def recording(entropy: object) -> np.random.Generator:
        made.append(real(entropy).bit_generator.random_raw(_FIRST_NUMBERS))  # type: ignore[call-overload]
        return real(entropy)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(np.random, "default_rng", recording)
    return made


def test_no_two_uses_share_a_number(drawn: list[np.ndarray]) -> None:
    for seed in (0, 5):
        config = short_config(
            num_steps=10,
            run={"seed": seed},
            optimizer={"name": "sophia", "sophia": Sophia(curvature_every=1)},
        )
        loader = training_batches(config, digits.load().train)
        init_weights(config.model, seed)
        # Noise of step 0 used to be the shuffle of epoch 5, and the weights that of epoch 0.
        for step in _STEPS:
            assert batch_of(config, loader, step).noise is not None
    numbers = {first.tobytes(): first for first in drawn}
    # An epoch's order is drawn anew for each batch, and the split, of a fixed seed, for each load.
    assert len(numbers) == 1 + 2 * (1 + _NUM_EPOCHS + 3 * len(_STEPS))
    together = np.concatenate(list(numbers.values()))
    assert len(np.unique(together)) == len(together)


def test_gradients_are_rounded_by_a_seed_of_the_run() -> None:
    seeds = [seed_of(seed, "gradient rounding") for seed in range(1000)]
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**32 for seed in seeds)
