"""A feed-forward layer is the papers' formula, and the same in both frameworks, there and back."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.layers.feed_forward.config import FeedForwardConfig
from models.layers.feed_forward.flax_layer import FeedForward as FlaxFeedForward
from models.layers.feed_forward.torch_layer import FeedForward as TorchFeedForward
from models.layers.feed_forward.weights import feed_forward
from models.testing.parity import Arrays, Pass, assert_same, of_flax, of_torch, stirred

WIDTH = 6
X = np.random.default_rng(0).normal(size=(2, 3, WIDTH))
SEEDS = np.array([3, 4], np.int32)

# Each is written from its paper with torch's own functions.
FORMULAS: dict[tuple[str, str], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    ("dense", "gelu"): lambda up, gate: F.gelu(up),
    ("dense", "relu"): lambda up, gate: F.relu(up),
    ("dense", "silu"): lambda up, gate: up * torch.sigmoid(up),
    ("dense", "squared_relu"): lambda up, gate: torch.clamp(up, min=0) ** 2,
    ("gated", "silu"): lambda up, gate: gate * torch.sigmoid(gate) * up,
    ("gated", "gelu"): lambda up, gate: F.gelu(gate) * up,
}


def _both(config: FeedForwardConfig, weights: Arrays, dtype: str, train: bool) -> tuple[Pass, Pass]:
    context = {"train": train, "seeds": SEEDS}
    x = X.astype(dtype)
    return (
        of_flax(lambda: FlaxFeedForward(config, WIDTH, name="a"), weights, x, context, jit=False),
        of_torch(lambda: TorchFeedForward(config, WIDTH, name="a"), weights, x, context),
    )


@pytest.mark.parametrize(("kind", "activation"), FORMULAS)
def test_is_its_papers(kind: str, activation: str) -> None:
    config = FeedForwardConfig.model_validate({"kind": kind, "activation": activation})
    weights = stirred(feed_forward(config, WIDTH), "float64")
    tensors = {name: torch.tensor(value) for name, value in weights.items()}

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    x = torch.tensor(X)
    gate = linear("gate", x) if kind == "gated" else x
    expected = linear("fc2", FORMULAS[kind, activation](linear("fc1", x), gate)).numpy()
    for ours in _both(config, weights, "float64", train=False):
        np.testing.assert_allclose(ours.output, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "values", "gradients"), [("float32", 1e-5, 1e-4), ("float64", 1e-12, 1e-10)]
)
@pytest.mark.parametrize("kind", ["dense", "gated"])
@pytest.mark.parametrize("bias", [True, False])
def test_both_frameworks_agree(
    kind: str, bias: bool, dtype: str, values: float, gradients: float
) -> None:
    config = FeedForwardConfig.model_validate({"kind": kind, "bias": bias, "dropout_rate": 0.4})
    weights = stirred(feed_forward(config, WIDTH), dtype)
    ours, other = _both(config, weights, dtype, train=True)
    assert_same(ours, other, values=values, gradients=gradients)
    still, _ = _both(config, weights, dtype, train=False)
    assert np.abs(ours.output - still.output).max() > 0.01  # some units were dropped


def test_hidden_units_are_dropped_by_example_and_layer() -> None:
    config = FeedForwardConfig(activation="identity", dropout_rate=0.5, bias=False)
    weights = {
        "fc1.weight": np.ones((4 * WIDTH, WIDTH)),
        "fc2.weight": np.ones((WIDTH, 4 * WIDTH)),
    }
    x = np.ones((2, 500, WIDTH))
    kept = {
        name: of_torch(
            lambda name=name: TorchFeedForward(config, WIDTH, name=name),
            weights,
            x,
            {"train": True, "seeds": SEEDS},
        ).output[..., 0]
        for name in ("a", "b")
    }
    # A unit that is kept adds 6 * 2; half of 24 are.
    assert abs(kept["a"].mean() / (12 * WIDTH * 2) - 1) < 0.02
    assert np.any(kept["a"][0] != kept["a"][1]) and np.any(kept["a"] != kept["b"])


@pytest.mark.parametrize(
    ("ratio", "multiple", "width", "hidden"),
    [
        (4, 1, 6, 24),
        (8 / 3, 1, 96, 256),
        (8 / 3, 64, 100, 320),
        (0.5, 1, 5, 3),
        (1, 8, 6, 8),
        (1e-9, 1, 6, 1),  # and never none
    ],
)
def test_hidden_units_are_rounded_up(ratio: float, multiple: int, width: int, hidden: int) -> None:
    config = FeedForwardConfig(hidden_ratio=ratio, hidden_multiple_of=multiple)
    assert config.hidden(width) == hidden
    assert feed_forward(config, width)["fc1.weight"].shape == (hidden, width)
