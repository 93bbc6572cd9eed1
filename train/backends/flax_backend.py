"""Flax on a mesh of devices: one process, which holds the whole batch."""

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding

from base.memory import peak_resident_bytes
from base.provenance import num_cores
from comm.compression import Compression
from comm.jax.transformation import bytes_per_step, compress_gradients, partition_specs
from comm.wire import Wire
from data.loader import WHOLE
from models.flax.predict import predictor
from models.flax.weights import from_canonical, to_canonical
from models.network import Framework, Predict
from models.weights import Weights
from optim.jax.transformation import fractions, transformation
from train.backends.backend import StepResult, Value
from train.backends.flax_checkpoint import load, save
from train.backends.flax_trace import trace
from train.backends.flax_update import AXIS, TrainState, compile_update
from train.config.schema import ConfigError, OptimizerConfig, TrainConfig
from train.data_parallel import compression_of, ranks_per_node
from train.events import PeakMemory
from train.loss_scale import LossScale
from train.recipe import Batch, StepScalars


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
        self.world_size = world_size
        self._algorithm = config.optimizer.algorithm
        self._compression = compression_of(config)
        self._mesh = _make_mesh(world_size, ranks_per_node(config))
        self._predict_fn = predictor(config.model)
        self._fractions = jax.jit(fractions, static_argnums=0)

    @property
    def device(self) -> str:
        return jax.devices()[0].device_kind

    @property
    def num_threads(self) -> int:
        return num_cores()  # XLA takes all

    def start(self, weights: Weights) -> None:
        module = from_canonical(self._config.model, weights)
        self._graph, params, statistics = nnx.split(module, nnx.Param, nnx.BatchStat)
        gradients = optax.chain(
            _mean_gradients(self._compression, self.world_size),
            _record_norm() if self._config.callbacks.watch.gradient_norm else optax.identity(),
            _clip_gradients(self._config.optimizer),
        )
        optimizer = transformation(self._algorithm).init(params)
        precision = self._config.precision
        scale = LossScale.initial(precision.loss_scaling) if precision.scales_loss else None
        scale = jax.tree.map(jnp.asarray, scale)
        average = None
        if self._config.ema.decay is not None:
            average = jax.tree.map(jnp.array, (params, statistics))  # updates take their memory
        self._state = TrainState(
            params, statistics, average, gradients.init(params), optimizer, scale
        )
        specs = partition_specs(self._state, AXIS)
        self._shardings = jax.tree.map(partial(NamedSharding, self._mesh), specs)
        self._update = compile_update(self._config, self._graph, gradients, specs, self._mesh)

    def step(self, batch: Batch, scalars: StepScalars) -> StepResult:
        self._state, result = self._update(self._state, batch, scalars)
        return result

    def fractions(self) -> Mapping[str, SupportsFloat]:
        return self._fractions(self._algorithm, self._state.optimizer, self._state.params)

    def mean_over_ranks(self, values: np.ndarray) -> np.ndarray:
        return values

    def of_first_rank(self, value: int) -> int:
        return value

    def object_of_first_rank(self, value: Value) -> Value:
        return value

    def save(self, directory: Path) -> Callable[[], None]:
        return save(self._state, directory)

    def load(self, directory: Path) -> None:
        self._state = load(
            directory, self._state, self._shardings, self._compression, self.world_size
        )

    def weights(self) -> Weights:
        state = self._state
        weights = state.average or (state.params, state.statistics)
        return to_canonical(nnx.merge(self._graph, *weights))

    def digests(self) -> list[str]:
        hashes = {device: hashlib.sha256() for device in self._mesh.devices.flat}
        for leaf in jax.tree.leaves((self._state.params, self._state.statistics)):
            for shard in leaf.addressable_shards:
                hashes[shard.device].update(np.asarray(shard.data).tobytes())
        return [sha256.hexdigest() for sha256 in hashes.values()]

    def wait(self) -> None:
        jax.block_until_ready(self._state)

    def peak_memory(self) -> PeakMemory:
        stats = [device.memory_stats() for device in self._mesh.devices.flat]
        peaks = [of_one["peak_bytes_in_use"] for of_one in stats if of_one is not None]
        return PeakMemory(peak_resident_bytes(), max(peaks, default=None))

    def trace(self, directory: Path) -> AbstractContextManager[None]:
        return trace(directory)

    def predict_fn(self, weights: Weights) -> Predict:
        return self._predict_fn(weights)

    def sent(self, num_steps: int) -> Wire | None:
        if self._compression is None:
            return None
        step = bytes_per_step(self._state.params, self._compression, self.world_size)
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
        AXIS,
        axis_types=(jax.sharding.AxisType.Auto,) * len(AXIS),
        devices=devices[:world_size],
    )


def _mean_gradients(
    compression: Compression | None, world_size: int
) -> optax.GradientTransformation:
    """Returns what turns each device's gradients into their mean over all devices."""
    if compression is None:
        return optax.stateless(lambda grads, _: jax.lax.pmean(grads, AXIS))
    return compress_gradients(compression, AXIS, world_size)


class _Norm(NamedTuple):
    gradient_norm: jax.Array  # of the latest step, float32 []


def _record_norm() -> optax.GradientTransformation:
    """Returns what notes the norm of gradients and leaves them as they are."""

    def update(grads: optax.Params, _: _Norm, params: object = None) -> tuple[optax.Params, _Norm]:
        return grads, _Norm(optax.global_norm(grads))

    return optax.GradientTransformation(lambda _: _Norm(jnp.zeros(())), update)


def _clip_gradients(config: OptimizerConfig) -> optax.GradientTransformation:
    norm, value = config.max_grad_norm, config.max_grad_value
    return optax.chain(
        optax.identity() if norm is None else optax.clip_by_global_norm(norm),
        optax.identity() if value is None else optax.clip(value),
    )
