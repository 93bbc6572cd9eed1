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
from train.checkpoint.beginning import NEWEST, Beginning
from train.checkpoint.suspension import Suspension
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
    beginning: Beginning = NEWEST,
) -> Publication | Suspension:
    """Trains as `config` says, evaluates on the held-out data and publishes; see `loop.run`.

    Args:
        config: The run.
        output_dir: Of the run: a new one, or one in which it goes on.
        callbacks: Whom to tell of progress.
        world_size: Devices that share each batch.
        beginning: Where it goes on, if not from its newest checkpoint.

    Returns:
        What was published, or how far the run came that was asked to end.

    Raises:
        ConfigError: The configuration asks for something that is not done here.
        ArtifactError: The artifact cannot be written.
        RunDirectoryError: It cannot go on in `output_dir`, or not from there; raised before
            training.
        TrainingError: The loss diverged.
    """
    check_run(config, output_dir, framework="flax", world_size=world_size, beginning=beginning)
    backend = FlaxBackend(config, world_size)
    end = loop.run(config, output_dir, backend, callbacks, beginning)
    assert end is not None  # the only rank is the first
    return end
