"""Trains in one process a rank, and passes on what the first of them tells."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from hpc.artifact.v1 import artifact_pb2

from registry.artifact import ArtifactError
from train.callbacks import Callback, CommunicationReport, StepReport
from train.config import ConfigError, TrainConfig
from train.launcher import run_ranks
from train.meter import TrainingError
from train.process_group import join
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

    def tell(event: _Event) -> None:
        for callback in callbacks:
            getattr(callback, event.method)(event.argument)

    with TemporaryDirectory() as directory:
        publications = run_ranks(
            _join_and_train,
            world_size,
            (world_size, Path(directory, "meeting_point"), train_rank, config, output_dir),
            on_message=tell,
            expected=(ConfigError, ArtifactError, TrainingError),
        )
    output_dir, artifact = publications[0]
    return Publication(output_dir, artifact_pb2.Artifact.FromString(artifact))


class _Event(NamedTuple):
    method: str
    argument: Any


class _Teller:
    """A callback whose events are told to those of the process that started this one."""

    def __init__(self, send: Callable[[_Event], None]):
        self._send = send

    def on_step(self, report: StepReport) -> None:
        self._send(_Event("on_step", report))

    def on_evaluation(self, metrics: Mapping[str, float]) -> None:
        self._send(_Event("on_evaluation", dict(metrics)))

    def on_communication(self, report: CommunicationReport) -> None:
        self._send(_Event("on_communication", report))


def _join_and_train(
    rank: int,
    send: Callable[[_Event], None],
    world_size: int,
    meeting_point: Path,
    train_rank: TrainRank,
    config: TrainConfig,
    output_dir: Path,
) -> tuple[Path, bytes] | None:
    join(rank, world_size, meeting_point)
    published = train_rank(config, output_dir, [_Teller(send)] if rank == 0 else [])
    return (
        None if published is None else (published.directory, published.artifact.SerializeToString())
    )
