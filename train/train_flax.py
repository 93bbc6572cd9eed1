"""Trains a model in Flax and publishes it.

    ./bazelw run //train:flax -- --config config/digits_flax.yaml --output DIR

`train/train_torch.py` is its twin: from one configuration both start with the same weights, see
the same batches and learning rates, and arrive at the same losses up to rounding.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from hpc.artifact.v1 import artifact_pb2

from data import digits
from models.flax.predict import predict_fn
from models.flax.vit import VisionTransformer
from models.flax.weights import from_canonical, to_canonical
from models.weights import init_weights
from train import cli
from train.callbacks import Callback
from train.config import ConfigError, OptimConfig, TorchConfig, TrainConfig
from train.evaluation import evaluate
from train.meter import Meter
from train.publication import publish_model, require_vacant
from train.recipe import learning_rates, training_batches


def train(
    config: TrainConfig, output_dir: Path, callbacks: Sequence[Callback] = ()
) -> artifact_pb2.Artifact:
    """Trains as `config` says, evaluates on the held-out data and publishes to `output_dir`.

    Raises:
        ConfigError: The configuration asks for something that is not done here.
        ArtifactError: `output_dir` is not empty or cannot be written; raised before training.
        TrainingError: The loss diverged.
    """
    if config.torch != TorchConfig():
        raise ConfigError("torch: only //train:torch heeds this section; remove it")
    require_vacant(output_dir)
    started_at = datetime.now(UTC)

    # Data: everything random was drawn in numpy, so that the other framework sees it too.
    source = digits.load()
    batches = training_batches(config, source.train)
    rates = learning_rates(config)

    # Model and optimizer.
    model_config = config.model.config
    model = from_canonical(model_config, init_weights(model_config, config.run.seed))
    graph, params = nnx.split(model)
    optimizer = _adamw(config.optim, rates)
    opt_state = optimizer.init(params)
    update = _compile_update(config, graph, optimizer)

    # Training.
    meter = Meter(config, rates, callbacks)
    for step in range(config.run.num_steps):
        images, labels = batches.batch(step)
        params, opt_state, loss, accuracy = update(params, opt_state, images, labels)
        meter.record(step, loss, accuracy)

    # Evaluation and publication.
    weights = to_canonical(nnx.merge(graph, params))
    metrics = evaluate(predict_fn(model_config, weights), source.test)
    for callback in callbacks:
        callback.on_evaluation(metrics)
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


def _compile_update(
    config: TrainConfig,
    graph: nnx.GraphDef[VisionTransformer],
    optimizer: optax.GradientTransformation,
) -> Callable[..., tuple[optax.Params, optax.OptState, jax.Array, jax.Array]]:
    """Returns `update(params, opt_state, images, labels)`, one training step.

    It gives the new `params` and `opt_state`, the loss in nats and the accuracy on the batch.
    """

    def loss_fn(
        params: optax.Params, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        logits = nnx.merge(graph, params)(images)
        one_hot = jax.nn.one_hot(labels, config.model.config.num_classes)
        targets = optax.smooth_labels(one_hot, config.loss.label_smoothing)
        accuracy = jnp.mean(logits.argmax(axis=-1) == labels)
        return optax.softmax_cross_entropy(logits, targets).mean(), accuracy

    @jax.jit
    def update(
        params: optax.Params, opt_state: optax.OptState, images: jax.Array, labels: jax.Array
    ) -> tuple[optax.Params, optax.OptState, jax.Array, jax.Array]:
        (loss, accuracy), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, images, labels)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss, accuracy

    return update


def _adamw(config: OptimConfig, learning_rates: np.ndarray) -> optax.GradientTransformation:
    rates = jnp.asarray(learning_rates)
    return optax.adamw(
        learning_rate=lambda step: rates[step],
        b1=config.beta1,
        b2=config.beta2,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree.map(lambda param: param.ndim > 1, params),
    )


if __name__ == "__main__":
    cli.main(train)
