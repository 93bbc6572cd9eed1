"""One training step in JAX, compiled for a mesh of devices that share each batch."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import PartitionSpec

from models.flax.weights import marked, with_statistics
from models.weights import decaying_weights
from optim.jax.curvature import gauss_newton_bartlett
from optim.jax.fused import step as fused_step
from optim.jax.transformation import State, with_curvature
from train.backends.backend import StepResult
from train.config.schema import TrainConfig
from train.loss_scale import LossScale
from train.recipe import Batch, StepScalars, context_of
from train.tasks.table import TASKS

# The mesh axes along which each batch is shared: nodes, and the devices of a node.
AXIS = ("node", "device")


class TrainState(NamedTuple):
    """What an update changes.

    Attributes:
        params: The model's weights that train.
        statistics: Those that do not.
        average: The moving averages of both; None: there are none.
        gradients: State of what comes between gradients and the optimizer.
        optimizer: The optimizer's state.
        loss_scale: Of float16; None: the loss is not scaled.
    """

    params: optax.Params
    statistics: optax.Params
    average: tuple[optax.Params, optax.Params] | None
    gradients: optax.OptState
    optimizer: State
    loss_scale: LossScale | None


def compile_update(
    config: TrainConfig,
    graph: nnx.GraphDef[nnx.Module],
    gradients: optax.GradientTransformation,
    state_specs: TrainState,
    mesh: jax.sharding.Mesh,
) -> Callable[[TrainState, Batch, StepScalars], tuple[TrainState, StepResult]]:
    """Returns `update(state, batch, scalars)`, one training step, which takes the state's memory.

    Where the batch has noise, it estimates curvature too.
    """
    update = partial(_update, config, _Losses(config, graph), gradients)
    everywhere, shared = PartitionSpec(), PartitionSpec(AXIS)
    return jax.jit(
        jax.shard_map(
            update,
            mesh=mesh,
            in_specs=(state_specs, shared, everywhere),
            out_specs=(state_specs, everywhere),
        ),
        donate_argnums=0,
        compiler_options={"xla_gpu_deterministic_ops": True} if config.run.deterministic else None,
    )


class _Losses:
    """What is differentiated: functions of a micro-batch's weights and content."""

    def __init__(self, config: TrainConfig, graph: nnx.GraphDef[nnx.Module]):
        self._config, self._graph = config, graph
        self.objective = TASKS[config.task].flax(config.loss)

    def loss(
        self,
        params: optax.Params,
        statistics: optax.Params,
        scalars: StepScalars,
        factor: jax.Array | float,
        part: "_Part",
    ) -> tuple[jax.Array, tuple[jax.Array, dict[str, jax.Array], dict[str, jax.Array]]]:
        """Returns the loss times a factor, and as it is, the metrics and the new statistics."""
        context = context_of(self._config, part.seeds, scalars)
        outputs = nnx.merge(self._graph, params, statistics)(part.inputs, context)
        loss, metrics = _weighted(self.objective.loss(outputs, part.targets), part.share)
        sown = context.sown
        return (loss + sown.loss) * factor, (loss, metrics | sown.report, sown.statistics)

    def sampled_loss(
        self,
        params: optax.Params,
        statistics: optax.Params,
        scalars: StepScalars,
        factor: jax.Array | float,
        part: "_Part",
    ) -> jax.Array:
        """Returns the loss of targets drawn from the model, times a factor."""
        context = context_of(self._config, part.seeds, scalars)
        outputs = nnx.merge(self._graph, params, statistics)(part.inputs, context)
        sampled = self.objective.sampled_loss(outputs, part.targets, part.noise)
        return _weighted(sampled, part.share) * factor


class _Part(NamedTuple):
    """A batch or a micro-batch.

    Attributes:
        inputs: As of `Batch`, as are targets, noise and seeds.
        share: [micro_batches], what the means of each count for; None: all count alike.
    """

    inputs: jax.Array
    targets: jax.Array
    noise: jax.Array | None
    seeds: jax.Array
    share: jax.Array | None


def _update(
    config: TrainConfig,
    losses: _Losses,
    gradients: optax.GradientTransformation,
    state: TrainState,
    batch: Batch,
    scalars: StepScalars,
) -> tuple[TrainState, StepResult]:
    """Makes one step on each device of the mesh, with its share of the batch."""
    micro_batches = config.data.gradient_accumulation_steps
    shares, num_targets = None, jnp.float32(config.data.global_batch_size)
    if (weight := losses.objective.weight) is not None:
        shares, num_targets = _shares(weight, batch.targets, micro_batches)
    whole = _Part(*batch, shares)
    # Of parameters that count as each device's own, gradients are so too.
    local = jax.lax.pcast((state.params, state.statistics), AXIS, to="varying")
    factor = 1.0 if state.loss_scale is None else state.loss_scale.factor
    grad = partial(jax.grad(losses.loss, has_aux=True), *local, scalars, factor)
    grads, (loss, metrics, statistics) = _mean(grad, whole, micro_batches)
    loss, metrics, statistics = jax.lax.pmean((loss, metrics, statistics), AXIS)
    curvature = None
    if batch.noise is not None:
        grad = partial(jax.grad(losses.sampled_loss), *local, scalars, factor)
        curvature = _mean(grad, whole, micro_batches)

    def estimate(optimizer: State, curvature: optax.Params) -> State:
        means = jax.lax.pmean(curvature, AXIS)
        estimated = gauss_newton_bartlett(means, num_targets)
        return with_curvature(config.optimizer.algorithm, optimizer, state.params, estimated)

    def step(state: TrainState, grads: optax.Params) -> TrainState:
        grads, gradients_state = gradients.update(grads, state.gradients)
        params, optimizer = fused_step(
            config.optimizer.algorithm,
            state.params,
            state.optimizer,
            grads,
            learning_rate=scalars.learning_rate,
            mask=marked(state.params, decaying_weights(config.model)),
            decay_scale=_decay_scale(config, scalars),
        )
        new = with_statistics(state.statistics, statistics)
        average = _moved(state.average, (params, new), scalars.average_rate)
        return TrainState(params, new, average, gradients_state, optimizer, state.loss_scale)

    report: dict[str, jax.Array] = {}
    if state.loss_scale is None and not config.callbacks.watch.skips:
        if curvature is not None:
            state = state._replace(optimizer=estimate(state.optimizer, curvature))
        state = step(state, grads)
    else:
        is_wanted = jnp.isfinite(loss) & (loss <= scalars.loss_limit)
        state, report = _unless_skipped(
            config, state, grads, curvature, estimate, step, is_wanted=is_wanted
        )
    if config.callbacks.watch.gradient_norm:
        report["gradient_norm"] = _norm_of(state, report.get("skipped"))
    return state, StepResult(loss, metrics | report)


def _unless_skipped(
    config: TrainConfig,
    state: TrainState,
    grads: optax.Params,
    curvature: optax.Params | None,
    estimate: Callable[[State, optax.Params], State],
    step: Callable[[TrainState, optax.Params], TrainState],
    *,
    is_wanted: jax.Array,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Estimates and steps if gradients are finite and it is wanted, and moves the loss's scale.

    Returns:
        The new state, and what is worth reporting.
    """
    scale = state.loss_scale
    if scale is not None:
        # Divided before anything else sees them: clipping, compression and the optimizer are those
        # of gradients that were never scaled.
        grads, curvature = jax.tree.map(lambda grad: grad / scale.factor, (grads, curvature))
    is_finite = jnp.bool_(True)
    if curvature is not None:
        is_finite = _are_finite(curvature)
        optimizer = jax.lax.cond(is_finite, estimate, _kept, state.optimizer, curvature)
        state = state._replace(optimizer=optimizer)
    is_finite = is_finite & _are_finite(grads)
    is_made = is_finite & is_wanted if config.callbacks.watch.skips else is_finite
    state = jax.lax.cond(is_made, step, _kept, state, grads)
    report = {"skipped": 1.0 - is_made.astype(jnp.float32)}
    if scale is not None:
        report["loss_scale"] = scale.factor
        after = scale.after(jnp, config.precision.loss_scaling, is_finite)
        state = state._replace(loss_scale=after)
    return state, report


def _norm_of(state: TrainState, skipped: jax.Array | None) -> jax.Array:
    """Returns the norm of the gradients of the latest step; NaN: it was skipped."""
    norm = optax.tree.get(state.gradients, "gradient_norm")
    return norm if skipped is None else jnp.where(skipped > 0, jnp.nan, norm)


def _kept(state: Any, grads: optax.Params) -> Any:
    return state


def _decay_scale(config: TrainConfig, scalars: StepScalars) -> jax.Array | None:
    """Returns the factor of weight decay; None: it is always 1, and costs nothing."""
    return None if config.regularization.weight_decay.is_off else scalars.weight_decay_scale


def _moved(average: Any, weights: Any, rate: jax.Array) -> Any:
    """Moves an average to the weights by this part of the way; None: there is none."""
    if average is None:
        return None
    return jax.tree.map(lambda old, new: old + rate * (new - old), average, weights)


def _are_finite(grads: optax.Params) -> jax.Array:
    """Returns whether all numbers of a tree are finite, on all devices."""
    own = [jnp.isfinite(grad).all() for grad in jax.tree.leaves(grads)]
    return jax.lax.pmin(jnp.stack(own).all().astype(jnp.int32), AXIS).astype(bool)


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


def _mean(fn: Callable[[_Part], Any], batch: _Part, micro_batches: int) -> Any:
    """Returns the mean of a function's results for equal parts of a batch, one after the other."""
    if micro_batches == 1:
        return fn(batch)
    parts = jax.tree.map(lambda x: x.reshape(micro_batches, -1, *x.shape[1:]), batch)

    def add(total: Any, part: _Part) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, fn(part)), None

    # Zeros, where the first part's results would have the function compiled twice.
    shapes = jax.eval_shape(fn, jax.tree.map(lambda x: x[0], parts))
    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, shapes), parts)
    return jax.tree.map(lambda x: x / micro_batches, total)
