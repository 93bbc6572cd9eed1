"""Hutchinson's estimate of our own networks' curvature, in both frameworks.

The oracle is a finite difference of first gradients, along the direction that the estimate drew.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
from flax import nnx

from models.architecture import parse_model
from models.flax import weights as flax_weights
from models.testing.parity import stirred
from models.torch import weights as torch_weights
from optim.jax import curvature as jax_curvature
from optim.torch import curvature as torch_curvature

jax.config.update("jax_enable_x64", True)

MODEL = parse_model(
    "mlp",
    {
        "input": {"patches": {"image_size": 4, "patch_size": 2, "num_channels": 1}},
        "hidden_sizes": [8],
        "num_blocks": 1,
        "activation": "identity",
        "num_classes": 3,
        "positions": {"learned": {"enabled": True}},
        "mixer": {"kind": "attention", "num_heads": 2},
        "final_norm": True,
    },
)
WEIGHTS = stirred(MODEL.network.weights(MODEL.config), "float64")
# Networks so small curve much: what differences leave out is 7e-8 here, and grows with the square.
STEP = 1e-6
IMAGES = np.random.default_rng(0).standard_normal((3, 4, 4, 1))
LABELS = np.array([0, 2, 1])


def test_hutchinson_of_the_torch_model() -> None:
    model = torch_weights.from_canonical(MODEL, WEIGHTS)
    params = list(model.parameters())
    directions = [
        torch.randn(p.shape, dtype=p.dtype, generator=generator)
        for generator in [torch.Generator().manual_seed(1)]
        for p in params
    ]

    def loss() -> torch.Tensor:
        return F.cross_entropy(model(torch.from_numpy(IMAGES)), torch.from_numpy(LABELS))

    def gradients(step: float) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            for param, x in zip(params, directions, strict=True):
                param += step * x
        grads = torch.autograd.grad(loss(), params)
        with torch.no_grad():
            for param, x in zip(params, directions, strict=True):
                param -= step * x
        return grads

    after, before = gradients(STEP), gradients(-STEP)
    torch_curvature.hutchinson(loss(), params, torch.Generator().manual_seed(1))
    for param, x, high, low in zip(params, directions, after, before, strict=True):
        expected = x * (high - low) / (2 * STEP)
        torch.testing.assert_close(param.grad, expected, rtol=1e-5, atol=1e-7)


def test_per_sample_gradients_of_the_torch_model() -> None:
    model = torch_weights.from_canonical(MODEL, WEIGHTS)
    params = dict(model.named_parameters())
    images, labels = torch.from_numpy(IMAGES), torch.from_numpy(LABELS)

    def loss(params, image, label):  # type: ignore[no-untyped-def]
        logits = torch.func.functional_call(model, params, (image[None],))
        return F.cross_entropy(logits, label[None])

    per_sample = torch.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(params, images, labels)
    for i in range(len(labels)):
        one = torch.autograd.grad(loss(params, images[i], labels[i]), list(params.values()))
        for name, grad in zip(params, one, strict=True):
            torch.testing.assert_close(per_sample[name][i], grad)


def test_hutchinson_of_the_flax_model() -> None:
    graph, params = nnx.split(flax_weights.from_canonical(MODEL, WEIGHTS))

    def loss(params: optax.Params) -> jax.Array:
        logits = nnx.merge(graph, params)(jnp.asarray(IMAGES))
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(LABELS)).mean()

    key = jax.random.key(1)
    estimate = jax.jit(lambda p: jax_curvature.hutchinson(loss, p, key))(params)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    directions = structure.unflatten(
        [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    )

    @jax.jit
    def gradient(step: float) -> optax.Params:
        return jax.grad(loss)(jax.tree.map(lambda p, x: p + step * x, params, directions))

    high, low = gradient(STEP), gradient(-STEP)
    expected = jax.tree.map(lambda x, a, b: x * (a - b) / (2 * STEP), directions, high, low)
    for got, want in zip(jax.tree.leaves(estimate), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
