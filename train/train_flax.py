"""Trains a model in Flax and publishes it.

    ./bazelw run //train:flax -- --config config/digits_flax.yaml
    ./bazelw run //train:flax -- --config config/digits_flax.yaml --nproc 2 \
        --set gradient_compression.enabled=true

`train/train_torch.py` is its twin: from one configuration both start with the same weights, see
the same batches and learning rates, and arrive at the same losses up to rounding.
"""

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import PartitionSpec

from comm.compression import Compression
from comm.jax.transformation import bytes_per_step, compress_gradients, partition_specs
from comm.wire import Wire
from data import digits
from models.flax.predict import predict_fn
from models.flax.vit import VisionTransformer
from models.flax.weights import from_canonical, to_canonical
from models.weights import init_weights
from optim.jax.curvature import gauss_newton_bartlett, sample_labels
from optim.jax.fused import step as fused_step
from optim.jax.transformation import State, clipped_fraction, matrices, transformation
from optim.sophia import Sophia
from train.callbacks import Callback
from train.config import ConfigError, TrainConfig
from train.data_parallel import communication_report, compression_of, ranks_per_node
from train.evaluation import evaluate
from train.meter import Meter
from train.preflight import check_run
from train.publication import Publication, publish_model
from train.recipe import label_noise, learning_rate, training_batches

# The mesh axes along which each batch is shared: nodes, and the devices of a node.
_AXIS = ("node", "device")


class _State(NamedTuple):
    """What an update changes.

    Attributes:
        params: The model's weights.
        gradients: State of what comes between gradients and the optimizer.
        optimizer: The optimizer's state.
    """

    params: optax.Params
    gradients: optax.OptState
    optimizer: State


def train(
    config: TrainConfig,
    output_dir: Path,
    callbacks: Sequence[Callback] = (),
    *,
    world_size: int = 1,
) -> Publication:
    """Trains as `config` says, evaluates on the held-out data and publishes to `output_dir`.

    Args:
        config: The run.
        output_dir: A new directory.
        callbacks: Whom to tell of progress.
        world_size: Devices that share each batch.

    Raises:
        ConfigError: The configuration asks for something that is not done here.
        ArtifactError: `output_dir` is not empty or cannot be written; raised before training.
        TrainingError: The loss diverged.
    """
    check_run(config, output_dir, framework="flax", world_size=world_size)
    mesh = _make_mesh(world_size, ranks_per_node(config))
    started_at = datetime.now(UTC)

    # Data: everything random was drawn in numpy, so that the other framework sees it too.
    source = digits.load()
    batches = training_batches(config, source.train)
    rate_of = learning_rate(config)

    # Model and optimizer.
    model_config = config.model.config
    model = from_canonical(model_config, init_weights(model_config, config.run.seed))
    graph, params = nnx.split(model)
    compression = compression_of(config)
    algorithm = config.optimizer.algorithm
    gradients = optax.chain(
        _mean_gradients(compression, world_size),
        _clip_gradients(config.optimizer.max_grad_norm),
    )
    state = _State(params, gradients.init(params), transformation(algorithm).init(params))
    update = _compile_update(config, graph, gradients, partition_specs(state, _AXIS), mesh)

    # Training.
    meter = Meter(config, rate_of, callbacks)
    fraction_of = jax.jit(clipped_fraction, static_argnums=0)
    for step in range(config.run.num_steps):
        batch: tuple[np.ndarray, ...] = batches.batch(step)
        if isinstance(algorithm, Sophia) and algorithm.wants_curvature(step):
            batch = (*batch, label_noise(config, step))
        state, loss, accuracy = update(state, batch, rate_of(step))
        clipped = None
        if isinstance(algorithm, Sophia) and meter.is_due(step):
            clipped = fraction_of(algorithm, state.optimizer, state.params)
        meter.record(step, loss, accuracy, clipped)

    # Evaluation and publication.
    weights = to_canonical(nnx.merge(graph, state.params))
    metrics = evaluate(predict_fn(model_config, weights), source.test)
    for callback in callbacks:
        callback.on_evaluation(metrics)
        if compression is not None:
            wire = _bytes_of_run(config, state.params, compression, world_size)
            callback.on_communication(communication_report(config, wire))
    return publish_model(
        output_dir,
        config,
        weights,
        metrics,
        framework="flax",
        libraries=("jax", "jaxlib", "flax", "optax"),
        device=jax.devices()[0].device_kind,
        data_digest=source.digest,
        started_at=started_at,
    )


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


def _bytes_of_run(
    config: TrainConfig, params: optax.Params, compression: Compression, world_size: int
) -> Wire:
    """Returns what each device sends of its gradients in the whole run.

    Those from which Sophia estimates curvature are not compressed.
    """
    step = bytes_per_step(params, compression, world_size)
    num_steps, algorithm = config.run.num_steps, config.optimizer.algorithm
    wire = Wire(step.sent_bytes * num_steps, step.float32_bytes * num_steps)
    if isinstance(algorithm, Sophia):
        plain = step.float32_bytes * sum(map(algorithm.wants_curvature, range(num_steps)))
        wire.add(plain, plain)
    return wire


def _compile_update(
    config: TrainConfig,
    graph: nnx.GraphDef[VisionTransformer],
    gradients: optax.GradientTransformation,
    state_specs: _State,
    mesh: jax.sharding.Mesh,
) -> Callable[..., tuple[_State, jax.Array, jax.Array]]:
    """Returns `update(state, batch, rate)`, one training step, which takes the state's memory.

    It gives the new state, the loss in nats and the accuracy on the batch, which is images and
    labels; and noise for `sample_labels`, to estimate curvature. Devices share the batch, and each
    has all parameters.
    """
    algorithm = config.optimizer.algorithm
    micro_batches = config.data.gradient_accumulation_steps

    def loss_fn(
        params: optax.Params, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        logits = nnx.merge(graph, params)(images)
        one_hot = jax.nn.one_hot(labels, config.model.config.num_classes)
        targets = optax.smooth_labels(one_hot, config.loss.label_smoothing)
        accuracy = jnp.mean(logits.argmax(axis=-1) == labels)
        return optax.softmax_cross_entropy(logits, targets).mean(), accuracy

    def sampled_loss_fn(params: optax.Params, images: jax.Array, noise: jax.Array) -> jax.Array:
        logits = nnx.merge(graph, params)(images)
        labels = sample_labels(logits, noise)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def update(
        state: _State, batch: tuple[jax.Array, ...], rate: jax.Array
    ) -> tuple[_State, jax.Array, jax.Array]:
        images, labels, *noise = batch
        # Of parameters that count as each device's own, gradients are so too.
        local = jax.lax.pcast(state.params, _AXIS, to="varying")
        value_and_grad = partial(jax.value_and_grad(loss_fn, has_aux=True), local)
        (loss, accuracy), grads = _mean(value_and_grad, micro_batches, images, labels)
        curvature = None
        if noise:
            grad = partial(jax.grad(sampled_loss_fn), local)
            sampled = jax.lax.pmean(_mean(grad, micro_batches, images, *noise), _AXIS)
            curvature = gauss_newton_bartlett(sampled, config.data.global_batch_size)
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
        loss, accuracy = jax.lax.pmean((loss, accuracy), _AXIS)
        return _State(params, gradients_state, optimizer_state), loss, accuracy

    everywhere, shared = PartitionSpec(), PartitionSpec(_AXIS)
    return jax.jit(
        jax.shard_map(
            update,
            mesh=mesh,
            in_specs=(state_specs, shared, everywhere),
            out_specs=(state_specs, everywhere, everywhere),
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
