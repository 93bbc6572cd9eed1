"""Trains in one process a rank, and passes on what the first of them tells."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from hpc.artifact.v1 import artifact_pb2

from registry.artifact import ArtifactError
from train.config.schema import ConfigError, TrainConfig
from train.events import Callback, tell
from train.launch.launcher import run_ranks
from train.launch.process_group import join
from train.meter import TrainingError
from train.publication import Publication

# Of a rank that has joined its world: `train_rank(config, output_dir, callbacks)`. The first rank
# publishes and says what and where, the others return None.
TrainRank = Callable[[TrainConfig, Path, Sequence[Callback]], Publication | None]


def train_on_ranks(
    train_rank: TrainRank,
    config: TrainConfig,
    output_dir: Path,
    callbacks: Sequence[Callback],
    *,
    world_size: int,
) -> Publication:
    """Calls `train_rank` in `world_size` new processes and returns what the first one published.

    Raises:
        ConfigError, ArtifactError, TrainingError: As `train_rank` does.
        RankError: A rank died, or failed of something else.
    """
    with TemporaryDirectory() as directory:
        publications = run_ranks(
            _join_and_train,
            world_size,
            (world_size, Path(directory, "meeting_point"), train_rank, config, output_dir),
            on_message=partial(tell, callbacks),
            expected=(ConfigError, ArtifactError, TrainingError),
        )
    output_dir, artifact = publications[0]
    return Publication(output_dir, artifact_pb2.Artifact.FromString(artifact))


def _join_and_train(
    rank: int,
    ask: Callback,
    world_size: int,
    meeting_point: Path,
    train_rank: TrainRank,
    config: TrainConfig,
    output_dir: Path,
) -> tuple[Path, bytes] | None:
    join(rank, world_size, meeting_point)
    published = train_rank(config, output_dir, [ask] if rank == 0 else [])
    return (
        None if published is None else (published.directory, published.artifact.SerializeToString())
    )
