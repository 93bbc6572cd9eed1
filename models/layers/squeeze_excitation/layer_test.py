"""Squeeze-and-excitation is the paper's, as timm writes it, in both frameworks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.layers.squeeze_excitation.config import SqueezeExcitationConfig
from models.layers.squeeze_excitation.flax_layer import SqueezeExcitation as FlaxLayer
from models.layers.squeeze_excitation.torch_layer import SqueezeExcitation as TorchLayer
from models.layers.squeeze_excitation.weights import squeeze_excitation
from models.testing.parity import (
    Arrays,
    Pass,
    assert_same,
    of_flax,
    of_torch,
    stirred,
    without_context,
)

CHANNELS = 8
X = np.random.default_rng(0).normal(size=(2, 3, 5, CHANNELS))


def _both(config: SqueezeExcitationConfig, weights: Arrays, x: np.ndarray) -> tuple[Pass, Pass]:
    return (
        of_flax(lambda: FlaxLayer(config, CHANNELS), weights, x, jit=False, call=without_context),
        of_torch(lambda: TorchLayer(config, CHANNELS), weights, x, call=without_context),
    )


@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid"])
@pytest.mark.parametrize(("ratio", "squeezed"), [(0.5, 4), (0.01, 1)])
def test_is_timms(gate: str, ratio: float, squeezed: int) -> None:
    """timm/layers/squeeze_excite.py: convolutions of 1x1 over the mean, in NCHW."""
    config = SqueezeExcitationConfig.model_validate(
        {"enabled": True, "ratio": ratio, "gate": gate, "activation": "silu"}
    )
    weights = stirred(squeeze_excitation(config, CHANNELS), "float64", scale=1.0)
    assert weights["fc1.weight"].shape == (squeezed, CHANNELS)
    tensors = {name: torch.tensor(value) for name, value in weights.items()}
    x = torch.tensor(X).permute(0, 3, 1, 2)
    mean = x.mean((2, 3), keepdim=True)
    inner = F.silu(F.conv2d(mean, tensors["fc1.weight"][..., None, None], tensors["fc1.bias"]))
    outer = F.conv2d(inner, tensors["fc2.weight"][..., None, None], tensors["fc2.bias"])
    factor = torch.sigmoid(outer) if gate == "sigmoid" else F.relu6(outer + 3.0) / 6.0
    expected = (x * factor).permute(0, 2, 3, 1)
    ours, other = _both(config, weights, X)
    np.testing.assert_allclose(ours.output, expected, rtol=0, atol=1e-12)
    assert_same(ours, other, values=1e-12, gradients=1e-10)


def test_moving_pixels_moves_what_comes_out() -> None:
    config = SqueezeExcitationConfig(enabled=True)
    weights = stirred(squeeze_excitation(config, CHANNELS), "float64", scale=1.0)
    moved = np.roll(X, 2, axis=2)
    for plain, other in zip(_both(config, weights, X), _both(config, weights, moved), strict=True):
        np.testing.assert_allclose(
            np.roll(plain.output, 2, axis=2), other.output, rtol=0, atol=1e-12
        )
