"""Trains a model in PyTorch through the DeepSpeed engine and publishes it.

    ./bazelw run //train:torch -- --config config/digits.yaml
    ./bazelw run //train:torch -- --config config/digits.yaml --nproc 2 --set zero.stage=2

`train/train_flax.py` is its twin: from one configuration both start with the same weights, see
the same batches and learning rates, and arrive at the same losses up to rounding.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from train import loop
from train.backends.deepspeed_backend import DeepSpeedBackend
from train.checkpoint.beginning import NEWEST, Beginning
from train.checkpoint.suspension import Suspension
from train.config.schema import TrainConfig
from train.events import Callback
from train.launch.launched import Launched
from train.launch.process_group import check_devices, join_alone, join_launched
from train.launch.torch_ranks import train_on_ranks
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
        callbacks: Whom to tell of progress, in this process.
        world_size: Ranks that share each batch: this process, or that many new ones.
        beginning: Where it goes on, if not from its newest checkpoint.

    Returns:
        What was published, or how far the run came that was asked to end.

    Raises:
        ConfigError: The configuration asks for something that is not done here.
        ArtifactError: The artifact cannot be written.
        RunDirectoryError: It cannot go on in `output_dir`, or not from there; raised before
            training.
        TrainingError: The loss diverged.
        RankError: One of several ranks died, or failed of something unexpected.
    """
    check_run(config, output_dir, framework="torch", world_size=world_size, beginning=beginning)
    check_devices(world_size)
    if world_size > 1:
        return train_on_ranks(
            train_rank, config, output_dir, callbacks, beginning, world_size=world_size
        )
    join_alone()
    end = train_rank(config, output_dir, callbacks, beginning)
    assert end is not None  # the only rank is the first
    return end


def train_launched(
    place: Launched,
    config: TrainConfig,
    output_dir: Path,
    callbacks: Sequence[Callback],
    beginning: Beginning,
) -> Publication | Suspension | None:
    """Does as one of a launcher's ranks what `train` does; all of them call this.

    Args:
        place: Of this process.
        config: The run.
        output_dir: Of the run, which all ranks see.
        callbacks: Whom to tell of progress; the first rank does.
        beginning: Where it goes on, if not from its newest checkpoint.

    Returns:
        What `train` does, on the first rank; None on the others.

    Raises:
        As `train` does, but for a `RankError`: launchers end ranks whose peers have died.
    """
    join_launched(place)
    return train_rank(config, output_dir, callbacks if place.rank == 0 else [], beginning)


def train_rank(
    config: TrainConfig,
    output_dir: Path,
    callbacks: Sequence[Callback],
    beginning: Beginning = NEWEST,
) -> Publication | Suspension | None:
    """Trains as one rank of torch's default process group; all its ranks call this.

    Returns:
        What `train` does, on the first rank; None on the others.
    """
    with closing(DeepSpeedBackend(config)) as backend:
        return loop.run(config, output_dir, backend, callbacks, beginning)
