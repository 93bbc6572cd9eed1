"""Trains in one process a rank, and passes on what the first of them tells."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from hpc.artifact.v1 import artifact_pb2

from registry.artifact import ArtifactError
from train.callbacks.callbacks import CallbackError, Callbacks, named
from train.checkpoint.beginning import Beginning
from train.checkpoint.run_directory import RunDirectoryError
from train.checkpoint.suspension import Suspension
from train.config.schema import ConfigError, TrainConfig
from train.events import Action, Callback, Compared, Event, Losses, StepBegins
from train.launch.launcher import run_ranks
from train.launch.process_group import join
from train.meter import TrainingError
from train.publication import Publication

# Of a rank that has joined its world: `train_rank(config, output_dir, callbacks, beginning)`. The
# first rank publishes, or saves, and says what and where; the others return None.
TrainRank = Callable[
    [TrainConfig, Path, Sequence[Callback], Beginning], Publication | Suspension | None
]


def train_on_ranks(
    train_rank: TrainRank,
    config: TrainConfig,
    output_dir: Path,
    callbacks: Sequence[Callback],
    beginning: Beginning,
    *,
    world_size: int,
) -> Publication | Suspension:
    """Calls `train_rank` in `world_size` new processes and returns what it does on the first one.

    Raises:
        ConfigError, ArtifactError, RunDirectoryError, TrainingError, CallbackError: As `train_rank`
            does.
        RankError: A rank died, or failed of something else.
    """
    with TemporaryDirectory() as directory:
        meeting_point = Path(directory, "meeting_point")
        ends = run_ranks(
            _join_and_train,
            world_size,
            (world_size, meeting_point, train_rank, config, output_dir, beginning),
            on_message=partial(_answer, Callbacks(named(callbacks))),
            expected=(
                ArtifactError,
                CallbackError,
                ConfigError,
                RunDirectoryError,
                TrainingError,
            ),
            hang_timeout_s=config.callbacks.watch.hang_timeout_s,
        )
    end = ends[0]
    if isinstance(end, Suspension):
        return end
    output_dir, artifact = end
    return Publication(output_dir, artifact_pb2.Artifact.FromString(artifact))


def _join_and_train(
    rank: int,
    ask: Callable[[Event], list[Action] | CallbackError],
    world_size: int,
    meeting_point: Path,
    train_rank: TrainRank,
    config: TrainConfig,
    output_dir: Path,
    beginning: Beginning,
) -> tuple[Path, bytes] | Suspension | None:
    join(rank, world_size, meeting_point)
    end = train_rank(config, output_dir, [partial(_tell, ask)] if rank == 0 else [], beginning)
    if isinstance(end, Publication):
        return end.directory, end.artifact.SerializeToString()
    return end


def _answer(callbacks: Callbacks, event: Event) -> list[Action] | CallbackError:
    """Has callbacks of this process hear of another's event."""
    callbacks.tell(event)
    return callbacks.failure or callbacks.take_answers()


def _tell(ask: Callable[[Event], list[Action] | CallbackError], event: Event) -> list[Action]:
    """Tells callbacks of the parent process of all but what comes with every step."""
    if isinstance(event, StepBegins | Losses | Compared):
        return []
    answer = ask(event)
    if isinstance(answer, CallbackError):
        raise answer
    return answer
