"""Trains a model in Flax and publishes it.

    ./bazelw run //train:flax -- --config config/digits.yaml
    ./bazelw run //train:flax -- --config config/digits.yaml --nproc 2 \
        --set gradient_compression.enabled=true

`train/train_torch.py` is its twin: from one configuration both start with the same weights, see
the same batches and learning rates, and arrive at the same losses up to rounding.
"""

from collections.abc import Sequence
from pathlib import Path

from train import loop
from train.backends.flax_backend import FlaxBackend
from train.config.schema import TrainConfig
from train.events import Callback
from train.preflight import check_run
from train.publication import Publication


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
    publication = loop.run(config, output_dir, FlaxBackend(config, world_size), callbacks)
    assert publication is not None  # the only rank is the first
    return publication
