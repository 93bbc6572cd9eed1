"""Trains a model in PyTorch through the DeepSpeed engine and publishes it.

    ./bazelw run //train:torch -- --config config/digits_torch.yaml
    ./bazelw run //train:torch -- --config config/digits_torch.yaml --nproc 2 --set zero.stage=2

`train/train_flax.py` is its twin: from one configuration both start with the same weights, see
the same batches and learning rates, and arrive at the same losses up to rounding.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import distributed

from data import digits
from models.torch.predict import predict_fn
from models.torch.weights import from_canonical
from models.weights import init_weights
from optim.sophia import Sophia
from optim.torch.optimizer import Optimizer, decay_groups
from train.callbacks import Callback
from train.config import TrainConfig
from train.data_parallel import communication_report, rank_slice
from train.deepspeed_engine import (
    compress_gradients,
    estimate_curvature,
    gather_weights,
    set_learning_rate,
    start_engine,
    update,
)
from train.evaluation import evaluate
from train.meter import Meter
from train.preflight import check_run
from train.process_group import check_devices, join_alone, mean_over_ranks
from train.publication import Publication, publish_model
from train.recipe import label_noise, learning_rate, training_batches
from train.torch_ranks import train_on_ranks


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
        callbacks: Whom to tell of progress, in this process.
        world_size: Ranks that share each batch: this process, or that many new ones.

    Raises:
        ConfigError: The configuration asks for something that is not done here.
        ArtifactError: `output_dir` is not empty or cannot be written; raised before training.
        TrainingError: The loss diverged.
        RankError: One of several ranks died, or failed of something unexpected.
    """
    check_run(config, output_dir, framework="torch", world_size=world_size)
    check_devices(world_size)
    if world_size > 1:
        return train_on_ranks(train_rank, config, output_dir, callbacks, world_size=world_size)
    join_alone()
    publication = train_rank(config, output_dir, callbacks)
    assert publication is not None  # the only rank is the first
    return publication


def train_rank(
    config: TrainConfig, output_dir: Path, callbacks: Sequence[Callback]
) -> Publication | None:
    """Trains as one rank of torch's default process group; all its ranks call this.

    Returns:
        What was published, on the first rank; None on the others.
    """
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    torch.set_num_threads(config.torch.num_threads or max(1, torch.get_num_threads() // world_size))
    started_at = datetime.now(UTC)

    # Data: everything random was drawn in numpy, so that the other framework sees it too.
    source = digits.load()
    batches = training_batches(config, source.train)
    share = rank_slice(config, rank, world_size)
    rate_of = learning_rate(config)

    # Model and optimizer, driven by DeepSpeed.
    model_config = config.model.config
    model = from_canonical(model_config, init_weights(model_config, config.run.seed))
    algorithm = config.optimizer.algorithm
    optimizer = Optimizer(decay_groups(model), algorithm)
    engine = start_engine(model, optimizer, config)
    wire = compress_gradients(engine, config)

    def loss_fn(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = engine(images)
        accuracy = (logits.argmax(dim=-1) == labels).float().mean()
        smoothing = config.loss.label_smoothing
        return F.cross_entropy(logits, labels.long(), label_smoothing=smoothing), accuracy

    # Training.
    meter = Meter(config, rate_of, callbacks, partial(mean_over_ranks, device=engine.device))
    for step in range(config.run.num_steps):
        set_learning_rate(engine, float(rate_of(step)))
        images, labels = (torch.from_numpy(a[share]).to(engine.device) for a in batches.batch(step))
        if isinstance(algorithm, Sophia) and algorithm.wants_curvature(step):
            noise = torch.from_numpy(label_noise(config, step)[share]).to(engine.device)
            estimate_curvature(engine, optimizer, images, noise)
        loss, accuracy = update(engine, loss_fn, images, labels)
        clipped = None
        if isinstance(algorithm, Sophia) and meter.is_due(step):
            clipped = optimizer.clipped_fraction()
        meter.record(step, loss, accuracy, clipped)

    # Evaluation and publication, by the first rank.
    weights = gather_weights(engine)
    if rank != 0:
        return None
    metrics = evaluate(predict_fn(model_config, weights), source.test)
    for callback in callbacks:
        callback.on_evaluation(metrics)
        if wire is not None:
            callback.on_communication(communication_report(config, wire))
    return publish_model(
        output_dir,
        config,
        weights,
        metrics,
        framework="torch",
        libraries=("torch", "deepspeed"),
        device=str(engine.device),
        data_digest=source.digest,
        started_at=started_at,
    )
