"""Flax on a mesh of devices: one process, which holds the whole batch."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import PartitionSpec

from comm.compression import Compression
from comm.jax.transformation import bytes_per_step, compress_gradients, partition_specs
from comm.wire import Wire
from data.loader import WHOLE
from models.context import Context
from models.flax.predict import predict_fn
from models.flax.weights import from_canonical, to_canonical, with_statistics
from models.network import Framework, Predict
from models.weights import Weights
from optim.jax.curvature import gauss_newton_bartlett
from optim.jax.fused import step as fused_step
from optim.jax.transformation import State, fractions, matrices, transformation
from train.backends.backend import StepResult
from train.config.schema import ConfigError, TrainConfig
from train.data_parallel import compression_of, ranks_per_node
from train.recipe import Batch
from train.tasks.table import TASKS

# The mesh axes along which each batch is shared: nodes, and the devices of a node.
_AXIS = ("node", "device")


class _State(NamedTuple):
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


class FlaxBackend:
    """See `Backend`; devices share each batch, and each has all parameters.

    Args:
        config: The run.
        world_size: Number of devices.

    Raises:
        ConfigError: There are fewer.
    """

    framework: Framework = "flax"
    libraries: tuple[str, ...] = ("jax", "jaxlib", "flax", "optax")
    rank = 0
    share = WHOLE

    def __init__(self, config: TrainConfig, world_size: int):
        self._config = config
        self._world_size = world_size
        self._algorithm = config.optimizer.algorithm
        self._compression = compression_of(config)
        self._mesh = _make_mesh(world_size, ranks_per_node(config))
        self._fractions = jax.jit(fractions, static_argnums=0)

    @property
    def device(self) -> str:
        return jax.devices()[0].device_kind

    def start(self, weights: Weights) -> None:
        module = from_canonical(self._config.model, weights)
        self._graph, params, statistics = nnx.split(module, nnx.Param, nnx.BatchStat)
        gradients = optax.chain(
            _mean_gradients(self._compression, self._world_size),
            _clip_gradients(self._config.optimizer.max_grad_norm),
        )
        optimizer = transformation(self._algorithm).init(params)
        self._state = _State(params, statistics, gradients.init(params), optimizer)
        specs = partition_specs(self._state, _AXIS)
        self._update = _compile_update(self._config, self._graph, gradients, specs, self._mesh)

    def step(self, batch: Batch, learning_rate: np.float32) -> StepResult:
        self._state, result = self._update(self._state, batch, learning_rate)
        return result

    def fractions(self) -> Mapping[str, SupportsFloat]:
        return self._fractions(self._algorithm, self._state.optimizer, self._state.params)

    def mean_over_ranks(self, values: np.ndarray) -> np.ndarray:
        return values

    def weights(self) -> Weights:
        return to_canonical(nnx.merge(self._graph, self._state.params, self._state.statistics))

    def predict_fn(self, weights: Weights) -> Predict:
        return predict_fn(self._config.model, weights)

    def sent(self, num_steps: int) -> Wire | None:
        if self._compression is None:
            return None
        step = bytes_per_step(self._state.params, self._compression, self._world_size)
        wire = Wire(step.sent_bytes * num_steps, step.float32_bytes * num_steps)
        # Gradients from which curvature is estimated are not compressed.
        estimates = sum(map(self._algorithm.wants_curvature, range(num_steps)))
        wire.add(step.float32_bytes * estimates, step.float32_bytes * estimates)
        return wire


def _make_mesh(world_size: int, per_node: int) -> jax.sharding.Mesh:
    """Returns a mesh of the first devices, in nodes; of a CPU, as many virtual ones as are needed.

    Raises:
        ConfigError: There are fewer.
    """
    if world_size > 1:
        # Fails if JAX has started already; then what counts is how many devices it has.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", world_size)
    devices = jax.devices()
    if len(devices) < world_size:
        raise ConfigError(
            f"--nproc {world_size} needs as many devices, and JAX has {len(devices)} of kind "
            f"{devices[0].device_kind!r}; lower it, or set JAX_PLATFORMS=cpu for virtual devices"
        )
    return jax.make_mesh(
        (world_size // per_node, per_node),
        _AXIS,
        axis_types=(jax.sharding.AxisType.Auto,) * len(_AXIS),
        devices=devices[:world_size],
    )


def _mean_gradients(
    compression: Compression | None, world_size: int
) -> optax.GradientTransformation:
    """Returns what turns each device's gradients into their mean over all devices."""
    if compression is None:
        return optax.stateless(lambda grads, _: jax.lax.pmean(grads, _AXIS))
    return compress_gradients(compression, _AXIS, world_size)


def _clip_gradients(max_norm: float | None) -> optax.GradientTransformation:
    return optax.identity() if max_norm is None else optax.clip_by_global_norm(max_norm)


def _compile_update(
    config: TrainConfig,
    graph: nnx.GraphDef[nnx.Module],
    gradients: optax.GradientTransformation,
    state_specs: _State,
    mesh: jax.sharding.Mesh,
) -> Callable[[_State, Batch, np.float32], tuple[_State, StepResult]]:
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
    ) -> tuple[jax.Array, tuple[jax.Array, dict[str, jax.Array], dict[str, jax.Array]]]:
        context = Context(train=True, seeds=seeds)
        outputs = nnx.merge(graph, params, statistics)(inputs, context)
        loss, metrics = objective.loss(outputs, targets)
        sown = context.sown
        return loss + sown.loss, (loss, metrics | sown.report, sown.statistics)

    def sampled_loss_fn(
        params: optax.Params,
        statistics: optax.Params,
        inputs: jax.Array,
        noise: jax.Array,
        seeds: jax.Array,
    ) -> jax.Array:
        context = Context(train=True, seeds=seeds)
        outputs = nnx.merge(graph, params, statistics)(inputs, context)
        return objective.sampled_loss(outputs, noise)

    def update(state: _State, batch: Batch, rate: jax.Array) -> tuple[_State, StepResult]:
        # Of parameters that count as each device's own, gradients are so too.
        local = jax.lax.pcast((state.params, state.statistics), _AXIS, to="varying")
        grad = partial(jax.grad(loss_fn, has_aux=True), *local)
        grads, (loss, metrics, statistics) = _mean(
            grad, micro_batches, batch.inputs, batch.targets, batch.seeds
        )
        curvature = None
        if batch.noise is not None:
            grad = partial(jax.grad(sampled_loss_fn), *local)
            sampled = _mean(grad, micro_batches, batch.inputs, batch.noise, batch.seeds)
            curvature = gauss_newton_bartlett(
                jax.lax.pmean(sampled, _AXIS), config.data.global_batch_size
            )
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
        loss, metrics, statistics = jax.lax.pmean((loss, metrics, statistics), _AXIS)
        new = with_statistics(state.statistics, statistics)
        return _State(params, new, gradients_state, optimizer_state), StepResult(loss, metrics)

    everywhere, shared = PartitionSpec(), PartitionSpec(_AXIS)
    return jax.jit(
        jax.shard_map(
            update,
            mesh=mesh,
            in_specs=(state_specs, shared, everywhere),
            out_specs=(state_specs, everywhere),
        ),
        donate_argnums=0,
    )


def _mean(fn: Callable[..., Any], micro_batches: int, *batch: jax.Array) -> Any:
    """Returns the mean of a function's results for equal parts of a batch, one after the other."""
    if micro_batches == 1:
        return fn(*batch)
    parts = [array.reshape(micro_batches, -1, *array.shape[1:]) for array in batch]

    def add(total: Any, part: tuple[jax.Array, ...]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, fn(*part)), None

    # Zeros, where the first part's results would have the function compiled twice.
    shapes = jax.eval_shape(fn, *(part[0] for part in parts))
    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, shapes), tuple(parts))
    return jax.tree.map(lambda x: x / micro_batches, total)
