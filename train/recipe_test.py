"""What a run draws at random comes from streams of its own, whatever the step and the epoch."""

import numpy as np
import pytest

from base.seeds import seed_of
from data.sources import digits
from models.weights import init_weights
from optim.sophia import Sophia
from train.config.schema import ConfigError
from train.recipe import (
    batch_of,
    evaluation_interval,
    num_steps_of,
    step_scalars,
    training_batches,
    unjudged,
)
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


def test_epochs_are_as_many_steps_as_show_every_example_so_often() -> None:
    config = short_config(num_steps=10, run={"num_steps": None, "num_epochs": 3})
    num_steps = num_steps_of(config, 1437)
    assert num_steps == 68  # 3 * 1437 / 64 = 67.4
    loader = training_batches(config, digits.load().train)
    seen = np.concatenate([loader.indices(step) for step in range(num_steps)])
    counts = np.bincount(seen, minlength=1437)
    assert counts.min() == 3
    assert counts.max() == 4  # the last batch begins the next epoch
    assert num_steps_of(short_config(num_steps=10), 1437) == 10


def test_epochs_that_end_before_the_warm_up_are_refused() -> None:
    config = short_config(
        num_steps=10, run={"num_steps": None, "num_epochs": 1}, schedule={"warmup_steps": 23}
    )
    with pytest.raises(
        ConfigError,
        match=r"schedule\.warmup_steps: expected less than the steps of run\.num_epochs 1 of 1,437 "
        r"examples \(23\), got 23",
    ):
        num_steps_of(config, 1437)


def test_epochs_that_end_before_the_traced_steps_are_refused() -> None:
    config = short_config(
        num_steps=10,
        run={"num_steps": None, "num_epochs": 1},
        callbacks={"profiler": {"first_step": 24}},
    )
    with pytest.raises(
        ConfigError,
        match=r"callbacks\.profiler\.first_step: expected at most the steps of run\.num_epochs 1 "
        r"of 1,437 examples \(23\), got 24",
    ):
        num_steps_of(config, 1437)


def test_every_step_has_the_numbers_of_its_place_in_the_run() -> None:
    factors = {"dropout": {"shape": "linear", "final": 0.0}, "weight_decay": {"initial": 0.5}}
    config = short_config(num_steps=10, regularization=factors)
    at = step_scalars(config, 10)
    assert [float(at(step).dropout_scale) for step in range(10)] == pytest.approx(
        [1 - step / 10 for step in range(10)]
    )
    assert at(3).weight_decay_scale == np.float32(0.5)
    assert at(3).stochastic_depth_scale == np.float32(1.0)
    assert {type(number) for number in at(3)} == {np.float32}


def test_evaluations_that_are_judged_are_made_once_an_epoch() -> None:
    assert evaluation_interval(short_config(num_steps=9), 1000) is None
    judged = {"early_stopping": {"patience": 1}}
    config = short_config(num_steps=9, callbacks=judged, data={"global_batch_size": 64})
    assert evaluation_interval(config, 1000) == 16  # the last is the first with all examples
    asked = short_config(num_steps=9, callbacks=judged, evaluation={"every_steps": 5})
    assert evaluation_interval(asked, 1000) == 5


@pytest.mark.parametrize(
    "judging",
    [
        {"callbacks": {"early_stopping": {"patience": 1}}},
        {"callbacks": {"reduce_on_plateau": {"patience": 1}}},
        {"checkpoint": {"keep_best": 1}},
    ],
)
def test_a_run_that_ends_before_it_is_judged_says_so(judging: dict[str, dict[str, object]]) -> None:
    config = short_config(num_steps=15, data={"global_batch_size": 64}, **judging)
    assert "there are 16 steps, and the run has 15; set evaluation.every_steps" in str(
        unjudged(config, 1000, 15)
    )
    assert unjudged(config, 1000, 16) is None
    assert unjudged(short_config(num_steps=15, evaluation={"every_steps": 99}), 1000, 15) is None
