"""Layer and RMS norm are torch's own, in both frameworks, whatever the dtype of the input."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.flax.weights import load_weights
from models.layers.norm.config import NormConfig
from models.layers.norm.flax_layer import Norm as FlaxNorm
from models.layers.norm.torch_layer import Norm as TorchNorm
from models.layers.norm.weights import norm
from models.testing.parity import stirred

WIDTH = 6


def _both(config: NormConfig, weights: dict[str, np.ndarray]) -> tuple[FlaxNorm, TorchNorm]:
    torch_side = TorchNorm(config, WIDTH)
    torch_side.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    return load_weights(lambda: FlaxNorm(config, WIDTH), weights), torch_side


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_is_torchs(kind: str) -> None:
    config = NormConfig.model_validate({"kind": kind, "epsilon": 1e-3})
    weights = stirred(norm(config, WIDTH), "float32")
    # Far from zero, where a variance from squares would be lost.
    x = np.random.default_rng(0).normal(300.0, 1.0, (2, 3, WIDTH)).astype(np.float32)
    wide, tensors = torch.tensor(x).double(), {k: torch.tensor(v) for k, v in weights.items()}
    expected = (
        F.layer_norm(wide, (WIDTH,), tensors["weight"].double(), tensors["bias"].double(), 1e-3)
        if kind == "layer"
        else F.rms_norm(wide, (WIDTH,), tensors["weight"].double(), 1e-3)
    )
    flax, torch_side = _both(config, weights)
    np.testing.assert_allclose(flax(jnp.asarray(x)), expected, rtol=0, atol=2e-4)
    np.testing.assert_allclose(
        torch_side(torch.tensor(x)).detach().numpy(), expected, rtol=0, atol=2e-4
    )


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_low_precision_goes_through_float32(kind: str) -> None:
    config = NormConfig.model_validate({"kind": kind})
    flax, torch_side = _both(config, stirred(norm(config, WIDTH), "float32"))
    x = torch.tensor(np.random.default_rng(0).normal(size=(4, WIDTH))).bfloat16()
    rounded = torch_side(x.float()).bfloat16()
    assert torch.equal(torch_side(x), rounded)
    ours = np.asarray(flax(jnp.asarray(x.float().numpy(), jnp.bfloat16)).astype(jnp.float32))
    np.testing.assert_allclose(ours, rounded.float().detach(), rtol=0, atol=2e-2)
