"""Fourier features are the paper's, in both frameworks, and learn what a plain network cannot."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from models.layers.fourier_features.config import FourierFeaturesConfig
from models.layers.fourier_features.coordinates import pixel_coordinates
from models.layers.fourier_features.flax_layer import FourierFeatures as FlaxLayer
from models.layers.fourier_features.torch_layer import FourierFeatures as TorchLayer
from models.layers.fourier_features.weights import fourier_features
from models.testing.parity import assert_same, of_flax, of_torch, without_context

INPUTS = 3


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_is_the_papers(learned: bool, dtype: str, tolerance: float) -> None:
    """Equation 5 of Tancik et al., with the input beside it; its slope from both frameworks."""
    config = FourierFeaturesConfig(enabled=True, num_frequencies=5, scale=2.0, learned=learned)
    frequencies = np.random.default_rng(1).normal(0.0, 2.0, (5, INPUTS)).astype(dtype)
    x = np.random.default_rng(0).uniform(size=(2, 4, INPUTS)).astype(dtype)
    angles = 2 * np.pi * np.einsum("...i,fi->...f", x.astype(np.float64), frequencies)
    expected = np.concatenate([x, np.cos(angles), np.sin(angles)], axis=-1)
    assert expected.shape[-1] == config.num_features(INPUTS)
    weights = {"frequencies": frequencies}
    ours = of_flax(lambda: FlaxLayer(config, INPUTS), weights, x, jit=False, call=without_context)
    other = of_torch(lambda: TorchLayer(config, INPUTS), weights, x, call=without_context)
    np.testing.assert_allclose(ours.output, expected, rtol=0, atol=tolerance)
    assert ours.output.dtype == dtype
    assert_same(ours, other, values=tolerance, gradients=10 * tolerance)
    assert list(ours.gradients) == (["frequencies", "input"] if learned else ["input"])


def test_frequencies_are_drawn_at_the_scale_and_stay_unless_learned() -> None:
    config = FourierFeaturesConfig(enabled=True, num_frequencies=4000, scale=7.0)
    weight = fourier_features(config, INPUTS)["frequencies"]
    drawn = weight.init(weight.shape, np.random.default_rng(0))
    assert abs(drawn.std() - 7.0) < 0.2 and abs(drawn.mean()) < 0.3
    assert not weight.trainable
    learned = FourierFeaturesConfig(enabled=True, learned=True)
    assert fourier_features(learned, INPUTS)["frequencies"].trainable


def test_coordinates_are_the_middles_of_pixels() -> None:
    coordinates = pixel_coordinates(2, 4)
    assert coordinates.shape == (2, 4, 2)
    np.testing.assert_array_equal(coordinates[:, 0, 0], [0.25, 0.75])
    np.testing.assert_array_equal(coordinates[0, :, 1], [0.125, 0.375, 0.625, 0.875])


def test_they_learn_a_high_frequency_that_a_plain_network_does_not() -> None:
    """Figure 2 of Tancik et al. in one dimension: ten periods over [0, 1]."""
    x = torch.linspace(0, 1, 256)[:, None]
    target = torch.sin(2 * torch.pi * 10 * x)
    config = FourierFeaturesConfig(enabled=True, num_frequencies=16, scale=10.0)
    weight = fourier_features(config, 1)["frequencies"]
    layer = TorchLayer(config, 1)
    frequencies = weight.init(weight.shape, np.random.default_rng(0)).astype(np.float32)
    layer.load_state_dict({"frequencies": torch.tensor(frequencies)})
    assert _error_of(layer(x), target) < 0.01
    assert _error_of(x, target) > 0.3


def _error_of(x: torch.Tensor, target: torch.Tensor) -> float:
    """Returns the mean squared error, of 0.5 at first, of a small network after 300 steps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(x.shape[-1], 64), nn.ReLU(), nn.Linear(64, 1))
    adam = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(300):
        adam.zero_grad()
        loss = (network(x) - target).square().mean()
        loss.backward()
        adam.step()
    return loss.item()


def test_keys_that_nothing_heeds_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"scale 3.0 has an effect with enabled alone"):
        FourierFeaturesConfig(scale=3.0)
    assert FourierFeaturesConfig().num_features(INPUTS) == INPUTS
