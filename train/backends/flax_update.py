"""One training step in JAX, compiled for a mesh of devices that share each batch."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import PartitionSpec

from models.context import Context
from models.flax.weights import with_statistics
from optim.jax.curvature import gauss_newton_bartlett
from optim.jax.fused import step as fused_step
from optim.jax.transformation import State, matrices
from train.backends.backend import StepResult
from train.config.schema import TrainConfig
from train.recipe import Batch
from train.tasks.table import TASKS

# The mesh axes along which each batch is shared: nodes, and the devices of a node.
AXIS = ("node", "device")


class TrainState(NamedTuple):
    """What an update changes.

    Attributes:
        params: The model's weights that train.
        statistics: Those that do not.
        gradients: State of what comes between gradients and the optimizer.
        optimizer: The optimizer's state.
    """

    params: optax.Params
    statistics: optax.Params
    gradients: optax.OptState
    optimizer: State


def compile_update(
    config: TrainConfig,
    graph: nnx.GraphDef[nnx.Module],
    gradients: optax.GradientTransformation,
    state_specs: TrainState,
    mesh: jax.sharding.Mesh,
) -> Callable[[TrainState, Batch, np.float32], tuple[TrainState, StepResult]]:
    """Returns `update(state, batch, rate)`, one training step, which takes the state's memory.

    Where the batch has noise, it estimates curvature too.
    """
    algorithm = config.optimizer.algorithm
    micro_batches = config.data.gradient_accumulation_steps
    objective = TASKS[config.task].flax(config.loss)

    def loss_fn(
        params: optax.Params,
        statistics: optax.Params,
        inputs: jax.Array,
        targets: jax.Array,
        seeds: jax.Array,
        share: jax.Array | None,
    ) -> tuple[jax.Array, tuple[jax.Array, dict[str, jax.Array], dict[str, jax.Array]]]:
        context = Context(train=True, seeds=seeds)
        outputs = nnx.merge(graph, params, statistics)(inputs, context)
        loss, metrics = _weighted(objective.loss(outputs, targets), share)
        sown = context.sown
        return loss + sown.loss, (loss, metrics | sown.report, sown.statistics)

    def sampled_loss_fn(
        params: optax.Params,
        statistics: optax.Params,
        inputs: jax.Array,
        targets: jax.Array,
        noise: jax.Array,
        seeds: jax.Array,
        share: jax.Array | None,
    ) -> jax.Array:
        context = Context(train=True, seeds=seeds)
        outputs = nnx.merge(graph, params, statistics)(inputs, context)
        return _weighted(objective.sampled_loss(outputs, targets, noise), share)

    def update(state: TrainState, batch: Batch, rate: jax.Array) -> tuple[TrainState, StepResult]:
        # Of parameters that count as each device's own, gradients are so too.
        local = jax.lax.pcast((state.params, state.statistics), AXIS, to="varying")
        shares, num_targets = None, jnp.float32(config.data.global_batch_size)
        if objective.weight is not None:
            shares, num_targets = _shares(objective.weight, batch.targets, micro_batches)
        mean = partial(_mean, micro_batches=micro_batches)
        grad = partial(jax.grad(loss_fn, has_aux=True), *local)
        grads, (loss, metrics, statistics) = mean(
            grad, batch.inputs, batch.targets, batch.seeds, shares
        )
        curvature = None
        if batch.noise is not None:
            grad = partial(jax.grad(sampled_loss_fn), *local)
            sampled = mean(grad, batch.inputs, batch.targets, batch.noise, batch.seeds, shares)
            curvature = gauss_newton_bartlett(jax.lax.pmean(sampled, AXIS), num_targets)
        grads, gradients_state = gradients.update(grads, state.gradients)
        params, optimizer_state = fused_step(
            algorithm,
            state.params,
            state.optimizer,
            grads,
            learning_rate=rate,
            mask=matrices,
            curvature=curvature,
        )
        loss, metrics, statistics = jax.lax.pmean((loss, metrics, statistics), AXIS)
        new = with_statistics(state.statistics, statistics)
        return TrainState(params, new, gradients_state, optimizer_state), StepResult(loss, metrics)

    everywhere, shared = PartitionSpec(), PartitionSpec(AXIS)
    return jax.jit(
        jax.shard_map(
            update,
            mesh=mesh,
            in_specs=(state_specs, shared, everywhere),
            out_specs=(state_specs, everywhere),
        ),
        donate_argnums=0,
    )


def _shares(
    weight: Callable[[jax.Array], jax.Array], targets: jax.Array, micro_batches: int
) -> tuple[jax.Array, jax.Array]:
    """Returns what each micro-batch's means count for, [micro_batches], and the weight of all.

    1 is the mean over the micro-batches of all devices. So the mean of means, each times what it
    counts for, is the mean over the whole batch.
    """
    weights = jax.vmap(weight)(targets.reshape(micro_batches, -1, *targets.shape[1:]))
    total = jax.lax.psum(weights.sum(), AXIS)
    parts = micro_batches * jax.lax.axis_size(AXIS)
    return weights * parts / jnp.maximum(total, 1.0), total


def _weighted(means: Any, share: jax.Array | None) -> Any:
    """Multiplies the means of a micro-batch by what they count for, [1]; None: all count alike."""
    return means if share is None else jax.tree.map(lambda mean: mean * share[0], means)


def _mean(fn: Callable[..., Any], *batch: jax.Array | None, micro_batches: int) -> Any:
    """Returns the mean of a function's results for equal parts of a batch, one after the other."""
    if micro_batches == 1:
        return fn(*batch)
    parts = jax.tree.map(lambda x: x.reshape(micro_batches, -1, *x.shape[1:]), batch)

    def add(total: Any, part: tuple[jax.Array, ...]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, fn(*part)), None

    # Zeros, where the first part's results would have the function compiled twice.
    shapes = jax.eval_shape(fn, *jax.tree.map(lambda part: part[0], parts))
    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, shapes), parts)
    return jax.tree.map(lambda x: x / micro_batches, total)
