"""The loss is PyTorch's own, in both frameworks, and sampling gives the curvature of the square."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from data.dataset import ExampleSpec, Split
from optim.jax.curvature import gauss_newton_bartlett
from train.evaluation import evaluate
from train.tasks.regression.task import REGRESSION, SquaredError

_OUTPUTS, _TARGETS = np.random.default_rng(0).normal(0, 2, (2, 6, 3)).astype(np.float32)

TOLERANCE = 1e-6


@pytest.mark.parametrize("delta", [None, 0.5, 100.0])
def test_is_the_loss_of_pytorch(delta: float | None) -> None:
    theirs = torch.tensor(_OUTPUTS, dtype=torch.float64, requires_grad=True)
    target = torch.tensor(_TARGETS, dtype=torch.float64)
    if delta is None:
        expected = F.mse_loss(theirs, target)
    else:
        expected = 2 * F.huber_loss(theirs, target, delta=delta)
    expected.backward()
    assert theirs.grad is not None
    section = SquaredError(huber_delta=delta)
    ours = torch.tensor(_OUTPUTS, requires_grad=True)
    value, metrics = REGRESSION.torch(section).loss(ours, torch.tensor(_TARGETS))
    value.backward()
    (flax_value, flax_metrics), flax_grad = jax.value_and_grad(
        REGRESSION.flax(section).loss, has_aux=True
    )(jnp.asarray(_OUTPUTS), jnp.asarray(_TARGETS))
    errors = _OUTPUTS.astype(np.float64) - _TARGETS
    for loss, found, grad in ((value, metrics, ours.grad), (flax_value, flax_metrics, flax_grad)):
        assert float(loss) == pytest.approx(expected.item(), rel=TOLERANCE)
        np.testing.assert_allclose(grad, theirs.grad, rtol=0, atol=TOLERANCE)
        assert float(found["mse"]) == pytest.approx((errors**2).mean(), rel=TOLERANCE)
        assert float(found["mae"]) == pytest.approx(np.abs(errors).mean(), rel=TOLERANCE)


def _noise(seed: int, batch: int, num_targets: int) -> np.ndarray:
    signature: Any = type("S", (), {"output": type("T", (), {"shape": (num_targets,)})})
    return REGRESSION.noise(signature, batch, np.random.default_rng(seed))


def test_sampled_gradients_estimate_the_hessian_of_the_squared_error() -> None:
    rng = np.random.default_rng(1)
    batch, num_features, num_targets = 16, 4, 3
    inputs = rng.normal(size=(batch, num_features)).astype(np.float32)
    # Of `mean((inputs @ w - targets)^2)` in `w [num_features, num_targets]`: exact, whatever `w`.
    hessian = (2 / num_targets * (inputs**2).mean(0))[:, None].repeat(num_targets, 1)
    sampled_loss = REGRESSION.flax(SquaredError()).sampled_loss
    weights = jnp.asarray(rng.normal(size=(num_features, num_targets)).astype(np.float32))

    def estimate(noise: jax.Array) -> jax.Array:
        grad = jax.grad(lambda w: sampled_loss(inputs @ w, None, noise))(weights)
        return gauss_newton_bartlett(grad, batch)

    draws = 20_000
    noise = jnp.asarray(_noise(2, draws * batch, num_targets).reshape(draws, batch, num_targets))
    mean = jax.vmap(estimate)(noise).mean(0)
    # A squared normal number has a deviation of sqrt(2) of its mean: 1% of 20,000 draws.
    np.testing.assert_allclose(mean, hessian, rtol=0.05)


def test_targets_are_drawn_alike() -> None:
    noise = _noise(3, 6, 3)
    values = [
        float(
            REGRESSION.flax(SquaredError()).sampled_loss(
                *map(jnp.asarray, (_OUTPUTS, _TARGETS, noise))
            )
        ),
        float(
            REGRESSION.torch(SquaredError()).sampled_loss(
                *map(torch.tensor, (_OUTPUTS, _TARGETS, noise))
            )
        ),
    ]
    assert values[0] == pytest.approx(values[1], rel=TOLERANCE)


_POINTS = ExampleSpec("points", (2,), "float32", None, (3,), "float32")


@pytest.mark.parametrize("size", [2, 600])
def test_held_out_metrics_are_those_of_scikit_learn(size: int) -> None:
    outputs, targets = np.random.default_rng(4).normal(size=(2, size, 3)).astype(np.float32)
    targets[:, 1] += 100.0
    found = evaluate(REGRESSION, lambda i: outputs[i], Split(np.arange(size), targets), _POINTS)
    given = targets.astype(np.float64), outputs.astype(np.float64)
    expected = {
        "mae": mean_absolute_error(*given),
        "mse": mean_squared_error(*given),
        "r2": r2_score(*given),
    }
    assert found.metrics == pytest.approx(expected, rel=1e-9)
    assert (found.num_examples, found.num_counted) == (size, 3 * size)
    # The numbers of one example are no independent ones.
    of_examples = np.square(given[1] - given[0]).mean(axis=1)
    error = 1.959964 * of_examples.std(ddof=1) / np.sqrt(size)
    expected_ends = (max(0.0, expected["mse"] - error), expected["mse"] + error)
    assert found.intervals["mse"] == pytest.approx(expected_ends, rel=1e-6)
    assert "r2" not in found.intervals


@pytest.mark.parametrize(("predicted", "r2"), [(0.1, 1.0), (0.2, 0.0)])
def test_a_target_that_never_changes_is_predicted_or_not(predicted: float, r2: float) -> None:
    """Where scikit-learn's sums leave a rounding error by which it divides."""
    targets = np.full((700, 3), 0.1, np.float32)
    split = Split(np.arange(700), targets)
    found = evaluate(
        REGRESSION, lambda i: np.full((len(i), 3), predicted, np.float32), split, _POINTS
    )
    assert found.metrics["r2"] == r2


def test_says_which_outputs_fit() -> None:
    assert REGRESSION.output_shape(_POINTS) == (3,)
    with pytest.raises(ValueError, match=r"has targets int32 \[\], but task 'regression' needs nu"):
        REGRESSION.output_shape(ExampleSpec("images", (8, 8, 1), "float32", 10))
