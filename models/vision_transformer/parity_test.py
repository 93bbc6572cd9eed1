"""The two models are one function: same logits, same gradients, same training, same predictions.

Each framework is the other's oracle: they share the configuration, the weights and the attention
kernel, and no line of the network.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F
from flax import nnx

from models.architecture import Model
from models.flax import predict as flax_predict
from models.flax import weights as flax_weights
from models.torch import predict as torch_predict
from models.torch import weights as torch_weights
from models.weights import Weights, init_weights

# A few hundred rounded operations lie between image and logit; the frameworks order them
# differently. Values are about 1.
TOLERANCES = {"float32": 2e-5, "float64": 1e-13}

# Rounding feeds back from step to step, but plain SGD does not amplify it much in so few.
TRAINING_TOLERANCES = {"float32": 2e-5, "float64": 1e-13}
NUM_STEPS = 10
LEARNING_RATE = 0.05


def _model(**config: int) -> Model:
    return Model(architecture="vision_transformer", config=config)


MODELS = {
    "digits": _model(
        image_size=8,
        patch_size=2,
        num_channels=1,
        num_classes=10,
        embed_dim=64,
        num_heads=4,
        num_layers=2,
        mlp_ratio=2,
    ),
    "one token, one head": _model(
        image_size=5,
        patch_size=5,
        num_channels=3,
        num_classes=2,
        embed_dim=17,
        num_heads=1,
        num_layers=1,
        mlp_ratio=1,
    ),
    "colour, odd sizes": _model(
        image_size=9,
        patch_size=3,
        num_channels=3,
        num_classes=7,
        embed_dim=30,
        num_heads=3,
        num_layers=2,
    ),
}
# JAX compiles anew for each: every configuration has one of the dtypes, the first has both.
each_case = pytest.mark.parametrize(
    ("model", "dtype"),
    [
        pytest.param(MODELS[name], dtype, id=f"{name}-{dtype}")
        for name, dtype in [
            ("digits", "float32"),
            ("digits", "float64"),
            ("one token, one head", "float64"),
            ("colour, odd sizes", "float32"),
        ]
    ],
)


def _weights(model: Model, dtype: str) -> Weights:
    """Initial weights with every tensor stirred, so that none hides behind a zero."""
    rng = np.random.default_rng(1)
    weights = init_weights(model, seed=0)
    return {
        name: (tensor + rng.normal(0.0, 0.1, tensor.shape)).astype(dtype)
        for name, tensor in weights.items()
    }


def _batch(model: Model, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    images = rng.random((6, *model.config.image_shape)).astype(dtype)
    return images, rng.integers(0, model.config.num_classes, 6)


class _Run(NamedTuple):
    """NUM_STEPS of training on one batch: of the first the logits and gradients, and the end."""

    logits: np.ndarray
    grads: Weights
    trained: Weights


@functools.cache
def _of_torch(model: Model, dtype: str) -> _Run:
    images, labels = map(torch.tensor, _batch(model, dtype))
    module = torch_weights.from_canonical(model, _weights(model, dtype))
    sgd = torch.optim.SGD(module.parameters(), LEARNING_RATE)
    steps = []
    for _ in range(NUM_STEPS):
        sgd.zero_grad()
        logits = module(images)
        F.cross_entropy(logits, labels).backward()
        grads = {name: param.grad.numpy() for name, param in module.named_parameters()}
        steps.append((logits.detach().numpy(), grads))
        sgd.step()
    return _Run(*steps[0], torch_weights.to_canonical(module))


@functools.cache
def _of_flax(model: Model, dtype: str) -> _Run:
    with jax.enable_x64(dtype == "float64"):
        images, labels = map(jnp.asarray, _batch(model, dtype))
        graph, params = nnx.split(flax_weights.from_canonical(model, _weights(model, dtype)))

        def loss(params: nnx.State) -> tuple[jax.Array, jax.Array]:
            logits = nnx.merge(graph, params)(images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

        # One program: without `jit` JAX compiles every operation by itself.
        @jax.jit
        def update(params: nnx.State) -> tuple[nnx.State, nnx.State, jax.Array]:
            grads, logits = jax.grad(loss, has_aux=True)(params)
            trained = jax.tree.map(lambda p, grad: p - LEARNING_RATE * grad, params, grads)
            return trained, grads, logits

        params, grads, logits = update(params)
        for _ in range(NUM_STEPS - 1):
            params, _, _ = update(params)
        first, trained = (flax_weights.to_canonical(nnx.merge(graph, x)) for x in (grads, params))
        return _Run(np.asarray(logits), first, trained)


def _assert_all_close(actual: Weights, expected: Weights, tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(
            actual[name], tensor, rtol=tolerance, atol=tolerance, err_msg=name
        )


@each_case
def test_same_logits(model: Model, dtype: str) -> None:
    ours, theirs = _of_flax(model, dtype).logits, _of_torch(model, dtype).logits
    assert ours.dtype == theirs.dtype == dtype
    tolerance = TOLERANCES[dtype]
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@each_case
def test_same_gradients(model: Model, dtype: str) -> None:
    ours, theirs = _of_flax(model, dtype).grads, _of_torch(model, dtype).grads
    _assert_all_close(ours, theirs, TOLERANCES[dtype])


@each_case
def test_same_weights_after_training(model: Model, dtype: str) -> None:
    ours, theirs = _of_flax(model, dtype).trained, _of_torch(model, dtype).trained
    _assert_all_close(ours, theirs, TRAINING_TOLERANCES[dtype])


@functools.cache
def _flax_predictor() -> Callable[[np.ndarray], np.ndarray]:
    model = MODELS["digits"]
    return flax_predict.predict_fn(model, _weights(model, "float32"))


@pytest.mark.parametrize("batch", [0, 1, 3, 8, 33])
def test_same_predictions_for_any_batch(batch: int) -> None:
    model = MODELS["digits"]
    images = np.random.default_rng(3).random((batch, *model.config.image_shape), dtype=np.float32)
    images.setflags(write=False)
    flax_logits = _flax_predictor()(images)
    torch_logits = torch_predict.predict_fn(model, _weights(model, "float32"))(images)
    for logits in (flax_logits, torch_logits):
        assert logits.shape == (batch, model.config.num_classes)
        assert logits.dtype == np.float32
    tolerance = TOLERANCES["float32"]
    np.testing.assert_allclose(flax_logits, torch_logits, rtol=tolerance, atol=tolerance)


def test_flax_predictions_do_not_depend_on_the_padding() -> None:
    model = MODELS["digits"]
    predict = _flax_predictor()
    images = np.random.default_rng(4).random((5, *model.config.image_shape), dtype=np.float32)
    together = predict(images)
    alone = np.concatenate([predict(image[np.newaxis]) for image in images])
    tolerance = TOLERANCES["float32"]
    np.testing.assert_allclose(together, alone, rtol=tolerance, atol=tolerance)


def test_torch_patches_are_those_of_unfold() -> None:
    """An oracle from outside: `torch.nn.functional.unfold` cuts the same patches."""
    from models.vision_transformer.torch_network import patchify

    images = torch.rand(2, 6, 6, 3)
    unfolded = F.unfold(images.permute(0, 3, 1, 2), kernel_size=2, stride=2)
    expected = unfolded.reshape(2, 3, 4, 9).permute(0, 3, 2, 1).reshape(2, 9, 12)
    torch.testing.assert_close(patchify(images, 2), expected, rtol=0, atol=0)
