"""Both frameworks drop the same, at the rate asked for, whatever batch an example is in."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats

from models.context import Context
from models.layers.dropout import flax_layer, torch_layer

_SEEDS = np.random.default_rng(0).integers(-(2**31), 2**31, 4000).astype(np.int32)
_X = np.random.default_rng(1).normal(size=(4000, 3, 5)).astype(np.float32)
_FLAX = Context(train=True, seeds=jnp.asarray(_SEEDS))
_TORCH = Context(train=True, seeds=torch.tensor(_SEEDS))


def test_both_draw_the_same_bits() -> None:
    ours = np.asarray(flax_layer.uniform(_FLAX, "a", (7, 2)))
    np.testing.assert_array_equal(ours, torch_layer.uniform(_TORCH, "a", (7, 2)).numpy())
    assert ours.min() >= 0 and ours.max() < 1


def test_numbers_are_uniform_and_independent() -> None:
    drawn = torch_layer.uniform(_TORCH, "a", (16,)).numpy()
    for column in (0, 15):
        assert stats.kstest(drawn[:, column], "uniform").pvalue > 1e-3
    other = torch_layer.uniform(_TORCH, "b", (16,)).numpy()
    for first, second in ((drawn[:, 0], drawn[:, 1]), (drawn[:, 0], other[:, 0])):
        assert abs(stats.pearsonr(first, second).statistic) < 0.06  # 4 standard errors
    # Seeds that follow on each other give numbers that do not.
    near = Context(train=True, seeds=torch.arange(4000))
    row = torch_layer.uniform(near, "a", (2,)).numpy()
    assert abs(stats.pearsonr(row[:-1, 0], row[1:, 0]).statistic) < 0.07


@pytest.mark.parametrize("layer", ["dropout", "stochastic_depth"])
def test_both_drop_the_same_at_the_rate(layer: str) -> None:
    rate = 0.3
    ours = np.asarray(getattr(flax_layer, layer)(jnp.asarray(_X), rate, _FLAX, "a"))
    other = getattr(torch_layer, layer)(torch.tensor(_X), rate, _TORCH, "a").numpy()
    np.testing.assert_array_equal(ours, other)
    dropped = ours == 0
    assert abs(dropped.mean() - rate) < 0.03
    np.testing.assert_allclose(ours[~dropped], _X[~dropped] / 0.7, rtol=1e-6)
    if layer == "stochastic_depth":  # an example is dropped whole
        assert np.all(dropped == dropped[:, :1, :1])


@pytest.mark.parametrize("layer", ["dropout", "stochastic_depth"])
def test_what_is_dropped_of_an_example_does_not_depend_on_its_batch(layer: str) -> None:
    whole = getattr(torch_layer, layer)(torch.tensor(_X), 0.5, _TORCH, "a")
    part = slice(10, 20)
    context = Context(train=True, seeds=torch.tensor(_SEEDS[part]))
    assert torch.equal(
        getattr(torch_layer, layer)(torch.tensor(_X[part]), 0.5, context, "a"), whole[part]
    )


def test_nothing_is_dropped_at_rate_zero_at_scale_zero_or_out_of_training() -> None:
    x = torch.tensor(_X)
    still = Context(train=True, seeds=_TORCH.seeds, dropout_scale=0.0, stochastic_depth_scale=0.0)
    for layer in (torch_layer.dropout, torch_layer.stochastic_depth):
        assert torch.equal(layer(x, 0.0, _TORCH, "a"), x)
        assert torch.equal(layer(x, 0.5, Context(), "a"), x)
        assert torch.equal(layer(x, 0.5, still, "a"), x)


def test_the_scale_lowers_the_rate() -> None:
    half = Context(train=True, seeds=_TORCH.seeds, dropout_scale=0.5)
    x = torch.ones(4000, 10)
    dropped = torch_layer.dropout(x, 0.4, half, "a") == 0
    assert abs(dropped.float().mean() - 0.2) < 0.01
    assert torch.equal(dropped, torch_layer.dropout(x, 0.2, _TORCH, "a") == 0)
