"""The networks as one would write them with flax.nnx and optax alone; `plain_torch.py` is its twin.

Names of layers are those of our weights, so that both start from the same.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.networks import cases

_EPSILON = 1e-6


class Attention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, rngs: nnx.Rngs):
        width = cases.WIDTH
        self.query = nnx.Linear(width, width, rngs=rngs)
        self.key = nnx.Linear(width, width, rngs=rngs)
        self.value = nnx.Linear(width, width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        heads = (*x.shape[:2], cases.HEADS, -1)
        q, k, v = (layer(x).reshape(heads) for layer in (self.query, self.key, self.value))
        return self.out(jax.nn.dot_product_attention(q, k, v).reshape(x.shape))


class FeedForward(nnx.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, rngs: nnx.Rngs):
        self.fc1 = nnx.Linear(cases.WIDTH, cases.RATIO * cases.WIDTH, rngs=rngs)
        self.fc2 = nnx.Linear(cases.RATIO * cases.WIDTH, cases.WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class Block(nnx.Module):
    """A pre-norm transformer block."""

    def __init__(self, rngs: nnx.Rngs):
        self.mixer_norm = nnx.LayerNorm(cases.WIDTH, epsilon=_EPSILON, rngs=rngs)
        self.mixer = Attention(rngs)
        self.feed_forward_norm = nnx.LayerNorm(cases.WIDTH, epsilon=_EPSILON, rngs=rngs)
        self.feed_forward = FeedForward(rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.mixer(self.mixer_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Embedding(nnx.Module):
    """A linear layer over what is read."""

    def __init__(self, inputs: int, width: int, rngs: nnx.Rngs):
        self.projection = nnx.Linear(inputs, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.projection(x)


class Positions(nnx.Module):
    """A learned vector for each token."""

    def __init__(self, tokens: int):
        self.embedding = nnx.Param(jnp.zeros((tokens, cases.WIDTH)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.embedding[...]


class Transformer(nnx.Module):
    """Images `[batch, height, width, 1]` to logits."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.embedding = Embedding(cases.PATCH_SIZE**2, cases.WIDTH, rngs)
        self.positions = Positions((cases.IMAGE_SIZE // cases.PATCH_SIZE) ** 2)
        self.blocks = nnx.List(Block(rngs) for _ in range(cases.BLOCKS))
        self.norm = nnx.LayerNorm(cases.WIDTH, epsilon=_EPSILON, rngs=rngs)
        self.head = nnx.Linear(cases.WIDTH, cases.NUM_CLASSES, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        side, size = cases.IMAGE_SIZE // cases.PATCH_SIZE, cases.PATCH_SIZE
        grid = images.reshape(-1, side, size, side, size).transpose(0, 1, 3, 2, 4)
        x = self.positions(self.embedding(grid.reshape(-1, side**2, size**2)))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(axis=1))


class Perceptron(nnx.Module):
    """Images `[batch, height, width, 1]` to logits."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        first, *others = cases.HIDDEN_SIZES
        self.embedding = Embedding(cases.IMAGE_SIZE**2, first, rngs)
        self.projections = nnx.List(
            nnx.Linear(*sizes, rngs=rngs) for sizes in zip(cases.HIDDEN_SIZES, others, strict=False)
        )
        self.head = nnx.Linear(cases.HIDDEN_SIZES[-1], cases.NUM_CLASSES, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.embedding(images.reshape(len(images), -1)))
        for layer in self.projections:
            x = jax.nn.relu(layer(x))
        return self.head(x)


NETWORKS: dict[str, Callable[[], nnx.Module]] = {
    cases.TRANSFORMER: Transformer,
    cases.PERCEPTRON: Perceptron,
}


def trainer(module: nnx.Module) -> Callable[[Any, Any], jax.Array]:
    """Returns a function that trains a module by one batch, and returns the loss before."""
    graph, params = nnx.split(module, nnx.Param)

    def apply(params: Any, images: jax.Array) -> jax.Array:
        network: Any = nnx.merge(graph, params)
        logits: jax.Array = network(images)
        return logits

    optimizer = optax.adamw(
        cases.LEARNING_RATE,
        b2=cases.BETA2,
        weight_decay=cases.WEIGHT_DECAY,
        mask=lambda params: jax.tree.map(lambda param: param.ndim > 1, params),
    )

    def loss_of(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        targets = optax.smooth_labels(
            jax.nn.one_hot(labels, cases.NUM_CLASSES), cases.LABEL_SMOOTHING
        )
        return optax.softmax_cross_entropy(apply(params, images), targets).mean()

    def step(params: Any, state: Any, images: jax.Array, labels: jax.Array) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params, images, labels)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    compiled = jax.jit(step, donate_argnums=(0, 1))
    held = {"now": (params, optimizer.init(params))}

    def run(images: Any, labels: Any) -> jax.Array:
        *held["now"], loss = compiled(*held["now"], images, labels)
        return loss

    return run
