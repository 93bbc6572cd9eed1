"""The function is smooth, known by its waves, and too fast for what learns low frequencies."""

import numpy as np
import pytest
from pydantic import ValidationError

from data.sources.waves import WAVES, WavesOptions


def _options(**changes: object) -> WavesOptions:
    given = {"num_dimensions": 1, "num_waves": 5, "max_frequency": 20.0}
    return WavesOptions.model_validate({**given, "num_train": 4000, "num_test": 500, **changes})


def _least_squares_error(options: WavesOptions, frequencies: np.ndarray) -> float:
    """Returns the held-out squared error of the best sum of sines of these frequencies."""
    data = WAVES.load(options)

    def features(points: np.ndarray) -> np.ndarray:
        angles = np.pi * points @ frequencies[np.newaxis]
        return np.column_stack([np.ones(len(points)), np.sin(angles), np.cos(angles)])

    weights, *_ = np.linalg.lstsq(features(data.train.inputs), data.train.targets, rcond=None)
    return float(np.square(features(data.test.inputs) @ weights - data.test.targets).mean())


def test_low_frequencies_do_not_explain_it_and_all_do() -> None:
    assert _least_squares_error(_options(), np.arange(1, 9) / 1.0) > 0.8
    assert _least_squares_error(_options(), np.arange(1, 45) / 2.0) < 0.02


def test_has_variance_one_however_many_waves() -> None:
    for number in (1, 50):
        targets = WAVES.load(_options(num_waves=number)).test.targets
        assert np.var(targets) == pytest.approx(1.0, abs=0.35)


def test_noise_is_of_what_is_trained_on() -> None:
    plain, noisy = (WAVES.load(_options(noise=noise)) for noise in (0.0, 0.5))
    np.testing.assert_array_equal(plain.train.inputs, noisy.train.inputs)
    added = noisy.train.targets - plain.train.targets
    assert np.std(added) == pytest.approx(0.5, rel=0.1)
    np.testing.assert_array_equal(plain.test.targets, noisy.test.targets)


def test_several_functions_at_once_are_different_ones() -> None:
    targets = WAVES.load(_options(num_targets=3)).train.targets
    assert targets.shape == (4000, 3)
    assert np.abs(np.corrcoef(targets.T) - np.eye(3)).max() < 0.5


@pytest.mark.parametrize("layout", ["point", "pixel"])
def test_is_described_as_it_is(layout: str) -> None:
    options = _options(layout=layout, num_dimensions=2)
    spec, train = WAVES.describe(options), WAVES.load(options).train
    assert spec.input_shape == train.inputs.shape[1:] == ((1, 1, 2) if layout == "pixel" else (2,))
    assert spec.target_shape == train.targets.shape[1:] == (1,)
    assert (spec.input_dtype, spec.target_dtype) == (train.inputs.dtype, train.targets.dtype)
    assert abs(train.inputs).max() <= 1.0


def test_a_seed_is_a_function() -> None:
    first, again, other = (WAVES.load(_options(seed=seed)).digest for seed in (1, 1, 2))
    assert first == again != other


def test_refuses_more_than_memory_should_hold() -> None:
    with pytest.raises(ValidationError, match="lower them or num_waves or num_targets"):
        _options(num_train=2**24, num_waves=4096)
