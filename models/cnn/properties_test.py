"""What a convolutional network promises beside being one function in both frameworks.

In PyTorch; `parity_test.py` says that Flax does the same.
"""

from typing import Any

import numpy as np
import pytest
import torch

from models.architecture import parse_model
from models.cnn.config import CnnConfig
from models.cnn.network import CNN
from models.context import Context
from models.flax import predict as flax_predict
from models.testing.parity import Arrays, Pass, assert_same, of_flax, of_torch, stirred
from models.torch import predict as torch_predict

SMALL: dict[str, Any] = {
    "image": {"height": 6, "width": 5, "num_channels": 2},
    "num_classes": 3,
    "stem": {"width": 4},
    "widths": [4, 8],
    "depths": [1, 3],
    "strides": [1, 2],
}
IMAGES = np.random.default_rng(2).random((4, 6, 5, 2))
SEEDS = np.array([3, 4, 5, 6], np.int32)


def _config(**change: Any) -> CnnConfig:
    return CnnConfig.model_validate(SMALL | change)


def _weights(config: CnnConfig) -> Arrays:
    return stirred(CNN.weights(config), "float64")


def _pass(config: CnnConfig, weights: Arrays, *, train: bool = True, **fields: Any) -> Pass:
    context = {"train": train, "seeds": SEEDS} | fields
    return of_torch(lambda: CNN.torch(config), weights, IMAGES, context)


def test_a_batch_in_another_order_gives_the_same_in_that_order() -> None:
    order = np.array([2, 0, 3, 1])
    rates = {"dropout_rate": 0.3, "stochastic_depth_rate": 0.3}
    config = _config(block=rates, head={"dropout_rate": 0.3}, norm={"kind": "batch"})
    weights = _weights(config)
    plain = _pass(config, weights)
    context = {"train": True, "seeds": SEEDS[order]}
    moved = of_torch(lambda: CNN.torch(config), weights, IMAGES[order], context)
    np.testing.assert_allclose(moved.output, plain.output[order], rtol=0, atol=1e-12)


def test_in_evaluation_an_example_does_not_depend_on_its_batch() -> None:
    config = _config(norm={"kind": "batch"})
    weights = _weights(config)
    whole = _pass(config, weights, train=False)
    alone = of_torch(lambda: CNN.torch(config), weights, IMAGES[1:2])
    np.testing.assert_allclose(alone.output, whole.output[1:2], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "scales"),
    [
        ({"block": {"dropout_rate": 0.5}}, {"dropout_scale": 0.0}),
        ({"block": {"stochastic_depth_rate": 0.5}}, {"stochastic_depth_scale": 0.0}),
        ({"head": {"dropout_rate": 0.5}}, {"dropout_scale": 0.0}),
    ],
)
def test_rates_of_zero_are_plain_and_others_are_not(
    change: dict[str, Any], scales: dict[str, float]
) -> None:
    weights = _weights(_config())
    plain = _pass(_config(), weights)
    assert_same(_pass(_config(**change), weights, **scales), plain, values=0, gradients=0)
    assert np.abs(_pass(_config(**change), weights).output - plain.output).max() > 1e-3


def _zeroed(config: CnnConfig) -> Arrays:
    """Returns weights stirred but where blocks start as the identity."""
    drawn = _weights(config)
    for name, weight in CNN.weights(config).items():
        initial = weight.init(weight.shape, np.random.default_rng(0))
        if weight.trainable and name.startswith("stages") and not initial.any():
            drawn[name] = initial
    return drawn


@pytest.mark.parametrize("block", [{"zero_init": True}, {"layer_scale": 0.0}])
@pytest.mark.parametrize("reversible", [[], [0]])
def test_blocks_that_start_at_zero_are_the_identity(
    block: dict[str, Any], reversible: list[int]
) -> None:
    """So the network is its stem, its last norm and its head."""
    shape = {"widths": [4], "depths": [3], "strides": [1]}
    config = _config(**shape, block=block, reversible_stages=reversible)
    weights = _zeroed(config)
    passed = _pass(config, weights, keep_values=True)
    np.testing.assert_array_equal(passed.sown["values.stem"], passed.sown["values.stages.0"])
    touched = [name for name, g in passed.gradients.items() if name.startswith("st") and g.any()]
    assert any(name.startswith("stages.0.2") for name in touched)  # and it learns to be another


@pytest.mark.parametrize("policy", ["full", "attention"])
@pytest.mark.parametrize("stages", [None, [1], []])
def test_checkpointing_changes_nothing(policy: str, stages: list[int] | None) -> None:
    rates = {"dropout_rate": 0.3, "stochastic_depth_rate": 0.3}
    options = {
        "block": rates,
        "attention_stages": [1],
        "attention": {"kind": "attention", "num_heads": 2},
    }
    plain, again = _config(**options), _config(**options, checkpointed_stages=stages)
    weights = _weights(plain)
    assert_same(
        _pass(again, weights, checkpointing=policy),
        _pass(plain, weights),
        values=0,
        gradients=1e-14,
    )


@pytest.mark.parametrize(("stages", "runs"), [(None, 8), ([1], 7), ([], 4)])
def test_checkpointing_is_for_the_stages_that_are_named(
    monkeypatch: pytest.MonkeyPatch, stages: list[int] | None, runs: int
) -> None:
    from models.cnn.torch_block import Block

    seen: list[None] = []
    forward = Block.forward

    def counting(self: Block, *args: Any) -> torch.Tensor:
        seen.append(None)
        return forward(self, *args)

    monkeypatch.setattr(Block, "forward", counting)
    config = _config(checkpointed_stages=stages)
    _pass(config, _weights(config), checkpointing="full")
    assert len(seen) == runs


def test_blurred_networks_hardly_change_where_images_shift() -> None:
    """Zhang's claim, of features before the head: shifted by a pixel, strided ones change more."""

    def change(**options: Any) -> float:
        image = {"height": 16, "width": 16, "num_channels": 2}
        config = _config(image=image, strides=[2, 2], norm={"kind": "none"}, **options)
        network = CNN.torch(config)
        weights = _weights(config)
        network.load_state_dict({k: torch.tensor(v) for k, v in weights.items()}, assign=True)
        images = np.zeros((4, 16, 16, 2))
        images[:, 5:10, 5:10] = np.random.default_rng(0).normal(size=(4, 5, 5, 2))
        plain, moved = (network(torch.tensor(x)) for x in (images, np.roll(images, 1, axis=2)))
        return ((plain - moved).norm() / plain.norm()).item()

    assert change(blur_filter_size=5) < 0.5 * change()


@pytest.mark.parametrize("norm", [{"kind": "batch"}, {"kind": "switchable", "num_groups": 2}])
def test_one_artifact_predicts_the_same_in_both_frameworks(norm: dict[str, Any]) -> None:
    """Statistics are among the weights: either framework is served those that the other left."""
    model = parse_model("cnn", SMALL | {"norm": norm})
    weights = stirred(model.network.weights(model.config), "float32")
    rng = np.random.default_rng(1)
    for name, value in weights.items():
        if "running" in name:
            weights[name] = value + rng.uniform(0.1, 0.5, value.shape).astype(np.float32)
    images = IMAGES.astype(np.float32)
    of_torch, of_flax = (
        framework.predict_fn(model, weights)(images) for framework in (torch_predict, flax_predict)
    )
    np.testing.assert_allclose(of_torch, of_flax, rtol=1e-5, atol=1e-5)
    # Without its statistics it would be another function.
    blank = {name: np.ones_like(v) if "running" in name else v for name, v in weights.items()}
    other = torch_predict.predict_fn(model, blank)(images)
    assert np.abs(other - of_torch).max() > 1e-2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_gives_logits_in_float32(dtype: str) -> None:
    config = _config(
        norm={"kind": "batch"},
        reversible_stages=[1],
        squeeze_excitation={"enabled": True},
        fourier_values={"enabled": True},
    )
    weights = stirred(CNN.weights(config), "float32")
    images = IMAGES.astype(np.float32)
    wide = of_torch(lambda: CNN.torch(config), weights, images)
    for narrow in (
        of_torch(lambda: CNN.torch(config), weights, images, {"dtype": dtype}),
        of_flax(lambda: CNN.flax(config), weights, images, {"dtype": dtype}, jit=False),
    ):
        assert narrow.output.dtype == np.float32
        # 8 bits of a bfloat16, through 8 blocks' convolutions.
        assert _distance(narrow.output, wide.output) < 0.05
        assert _distance(narrow.gradients["stem.weight"], wide.gradients["stem.weight"]) < 0.1


def test_blocks_compute_in_the_dtype_that_the_context_says() -> None:
    config = _config(norm={"kind": "batch"}, reversible_stages=[1])
    context = Context(dtype="bfloat16", keep_values=True)
    CNN.torch(config)(torch.tensor(IMAGES, dtype=torch.float32), context)
    values = context.sown.values
    assert {name for name, x in values.items() if x.dtype == torch.bfloat16} == set(values) - {
        "pooled"
    }


def _distance(narrow: np.ndarray, wide: np.ndarray) -> float:
    return float(np.linalg.norm(narrow - wide) / np.linalg.norm(wide))
