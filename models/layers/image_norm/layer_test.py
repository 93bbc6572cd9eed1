"""Normalisations of images are torch's own and the papers', the same in both frameworks."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from models.context import Context
from models.layers.image_norm.config import ImageNormConfig
from models.layers.image_norm.flax_layer import ImageNorm as FlaxImageNorm
from models.layers.image_norm.torch_layer import ImageNorm as TorchImageNorm
from models.layers.image_norm.weights import image_norm
from models.testing.parity import Arrays, Pass, assert_same, of_flax, of_torch, stirred

KINDS = ["batch", "layer", "group", "instance", "switchable", "none"]
CHANNELS, NUM_GROUPS, EPSILON, MOMENTUM = 6, 2, 1e-3, 0.3
# Far from zero, where a variance from squares loses digits, of which PyTorch's group norm uses one.
X = np.random.default_rng(0).normal(30.0, 2.0, (3, 4, 5, CHANNELS))


def _config(kind: str) -> ImageNormConfig:
    keys = {
        "kind": kind,
        "epsilon": EPSILON if kind != "none" else None,
        "momentum": MOMENTUM if kind in ("batch", "switchable") else None,
        "num_groups": NUM_GROUPS if kind in ("group", "switchable") else None,
    }
    return ImageNormConfig.model_validate({k: v for k, v in keys.items() if v is not None})


def _weights(kind: str, dtype: str) -> Arrays:
    weights = stirred(image_norm(_config(kind), CHANNELS), dtype, scale=0.5)
    rng = np.random.default_rng(3)
    if "running_mean" in weights:
        weights["running_mean"] = rng.normal(30.0, 1.0, CHANNELS).astype(dtype)
        weights["running_var"] = rng.uniform(1.0, 5.0, CHANNELS).astype(dtype)
    return weights


def _both(kind: str, dtype: str, train: bool, x: np.ndarray = X) -> tuple[Pass, Pass]:
    weights, config, x = _weights(kind, dtype), _config(kind), x.astype(dtype)
    return (
        of_flax(
            lambda: FlaxImageNorm(config, CHANNELS, name="a"),
            weights,
            x,
            {"train": train},
            jit=False,
        ),
        of_torch(lambda: TorchImageNorm(config, CHANNELS, name="a"), weights, x, {"train": train}),
    )


def _torchs_own(kind: str) -> nn.Module:
    return {
        "batch": nn.BatchNorm2d(CHANNELS, EPSILON, MOMENTUM),
        "layer": nn.GroupNorm(1, CHANNELS, EPSILON),
        "group": nn.GroupNorm(NUM_GROUPS, CHANNELS, EPSILON),
        "instance": nn.InstanceNorm2d(CHANNELS, EPSILON, affine=True),
    }[kind].double()


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("kind", ["batch", "layer", "group", "instance"])
def test_is_torchs(kind: str, train: bool) -> None:
    theirs = _torchs_own(kind).train(train)
    weights = {name: torch.tensor(value) for name, value in _weights(kind, "float64").items()}
    theirs.load_state_dict(weights, strict=False)
    expected = theirs(torch.tensor(X).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach()
    for ours in _both(kind, "float64", train):
        np.testing.assert_allclose(ours.output, expected, rtol=0, atol=1e-11)
        told = {name: value for name, value in ours.sown.items() if name.startswith("statistics")}
        assert len(told) == (2 if kind == "batch" and train else 0)
        for name, value in told.items():
            statistic = theirs.get_buffer(name.removeprefix("statistics.a."))
            np.testing.assert_allclose(value, statistic, rtol=1e-12)


@pytest.mark.parametrize("train", [True, False])
def test_a_mixture_is_the_papers(train: bool) -> None:
    """Equation 5 of Luo et al., each mean and variance taken over the pixels themselves."""
    weights = _weights("switchable", "float64")
    shares = {
        name: np.exp(weights[name]) / np.exp(weights[name]).sum()
        for name in ("mean_logits", "variance_logits")
    }
    grouped = X.reshape(3, 4, 5, NUM_GROUPS, -1)

    def over(measure: str) -> list[np.ndarray]:
        of = getattr(np, measure)
        batch = of(X, axis=(0, 1, 2), keepdims=True)
        running = weights["running_mean" if measure == "mean" else "running_var"]
        groups = of(grouped, axis=(1, 2, 4), keepdims=True)
        return [
            batch if train else running,
            of(X, axis=(1, 2, 3), keepdims=True),
            np.broadcast_to(groups, (3, 1, 1, NUM_GROUPS, 3)).reshape(3, 1, 1, CHANNELS),
            of(X, axis=(1, 2), keepdims=True),
        ]

    mean, variance = (
        sum(share * moment for share, moment in zip(shares[logits], over(measure), strict=True))
        for measure, logits in (("mean", "mean_logits"), ("var", "variance_logits"))
    )
    expected = weights["weight"] * (X - mean) / np.sqrt(variance + EPSILON) + weights["bias"]
    for ours in _both("switchable", "float64", train):
        np.testing.assert_allclose(ours.output, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("dtype", "values", "gradients"), [("float32", 1e-5, 1e-4), ("float64", 1e-12, 1e-10)]
)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_both_agree_there_and_back(
    kind: str, train: bool, dtype: str, values: float, gradients: float
) -> None:
    ours, other = _both(kind, dtype, train, X - 28.0)
    assert ours.output.dtype == dtype
    assert_same(ours, other, values=values, gradients=gradients)


def test_a_mixture_of_one_is_that_one() -> None:
    weights = _weights("switchable", "float64")
    for place, kind in enumerate(["batch", "layer", "group", "instance"]):
        logits = np.full(4, -60.0)
        logits[place] = 60.0
        chosen = weights | {"mean_logits": logits, "variance_logits": logits}
        mixed = TorchImageNorm(_config("switchable"), CHANNELS, name="a").double()
        alone = TorchImageNorm(_config(kind), CHANNELS, name="a").double()
        tensors = {name: torch.tensor(value) for name, value in chosen.items()}
        mixed.load_state_dict(tensors)
        alone.load_state_dict({name: tensors[name] for name in alone.state_dict()})
        x = torch.tensor(X)
        torch.testing.assert_close(
            mixed(x, Context(train=True)), alone(x, Context(train=True)), rtol=0, atol=1e-11
        )


def test_none_changes_nothing_and_has_no_weights() -> None:
    assert image_norm(_config("none"), CHANNELS) == {}
    for ours in _both("none", "float64", train=True):
        np.testing.assert_array_equal(ours.output, X)


@pytest.mark.parametrize("kind", ["batch", "switchable"])
def test_one_value_has_no_variance(kind: str) -> None:
    x = np.ones((1, 1, 1, CHANNELS), np.float32)
    weights = _weights(kind, "float32")
    build = {"flax": FlaxImageNorm, "torch": TorchImageNorm}
    for framework, run in (("flax", of_flax), ("torch", of_torch)):
        with pytest.raises(ValueError, match="only one value of each channel"):
            run(
                lambda layer=build[framework]: layer(_config(kind), CHANNELS, name="a"),
                weights,
                x,
                {"train": True},
            )


def test_what_forward_tells_it_does_not_keep() -> None:
    layer = TorchImageNorm(_config("batch"), CHANNELS, name="a")
    context = Context(train=True)
    layer(torch.tensor(X, dtype=torch.float32), context)
    assert torch.equal(layer.running_mean, torch.zeros(CHANNELS))
    assert context.sown.statistics["a.running_mean"].mean() > 5


def test_low_precision_goes_through_float32() -> None:
    x = torch.tensor(X - 30.0).bfloat16()
    for kind in ("batch", "group", "switchable"):
        layer = TorchImageNorm(_config(kind), CHANNELS, name="a")
        rounded = layer(x.float(), Context(train=True)).bfloat16()
        assert torch.equal(layer(x, Context(train=True)), rounded)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "layer", "momentum": 0.2}, "momentum 0.2 has an effect with kind batch or swi"),
        ({"kind": "batch", "num_groups": 4}, "num_groups 4 has an effect with kind group or swi"),
        ({"kind": "none", "epsilon": 1e-3}, "epsilon 0.001 has an effect with a kind other than"),
    ],
)
def test_keys_that_nothing_heeds_are_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImageNormConfig.model_validate(keys)
