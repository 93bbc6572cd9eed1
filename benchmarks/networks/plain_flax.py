"""A step of training as one would write it with flax.nnx and optax, of which nothing is ours."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from optim.adamw import AdamW
from train.config.schema import TrainConfig

# Makes logits of a module and a batch, as in training, and the module's new statistics.
Apply = Callable[[Any, jax.Array], tuple[jax.Array, nnx.State[Any, Any]]]

# Trains by inputs and targets, and returns the loss before and the accuracy.
Step = Callable[[Any, Any], tuple[jax.Array, jax.Array]]


def apply_plain(network: Any, inputs: jax.Array) -> tuple[jax.Array, nnx.State[Any, Any]]:
    """Calls a module that keeps its statistics itself."""
    return network(inputs), nnx.state(network, nnx.BatchStat)


def trainer(module: nnx.Module, config: TrainConfig, apply: Apply = apply_plain) -> Step:
    """Returns what trains a module."""
    graph, params, statistics = nnx.split(module, nnx.Param, nnx.BatchStat)
    optimizer = _optimizer(config)

    def loss_of(params: Any, statistics: Any, inputs: jax.Array, targets: jax.Array) -> Any:
        network = nnx.merge(graph, params, statistics, copy=True)
        logits, statistics = apply(network, inputs)
        accuracy = jnp.mean(logits.argmax(axis=-1) == targets)
        return _loss(logits, targets, config), (accuracy, statistics)

    def step(held: Any, inputs: jax.Array, targets: jax.Array) -> Any:
        params, statistics, state = held
        grad = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (accuracy, statistics)), grads = grad(params, statistics, inputs, targets)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), statistics, state), (loss, accuracy)

    compiled = jax.jit(step, donate_argnums=0)
    held = (params, statistics, optimizer.init(params))

    def run(inputs: Any, targets: Any) -> tuple[jax.Array, jax.Array]:
        nonlocal held
        held, measured = compiled(held, inputs, targets)
        return measured

    return run


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    adamw, max_grad_norm = config.optimizer.algorithm, config.optimizer.max_grad_norm
    assert isinstance(adamw, AdamW)
    update = optax.adamw(
        adamw.learning_rate,
        b1=adamw.beta1,
        b2=adamw.beta2,
        eps=adamw.epsilon,
        weight_decay=adamw.weight_decay,
        mask=lambda params: jax.tree.map(lambda param: param.ndim > 1, params),
    )
    if max_grad_norm is None:
        return update
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), update)


def _loss(logits: jax.Array, targets: jax.Array, config: TrainConfig) -> jax.Array:
    smoothing = config.loss.label_smoothing
    if not smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
    smooth = optax.smooth_labels(jax.nn.one_hot(targets, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, smooth).mean()
