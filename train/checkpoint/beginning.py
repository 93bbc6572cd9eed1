"""Where a run begins, or goes on."""

from dataclasses import dataclass
from pathlib import Path

from models.network import Framework
from train.callbacks.callbacks import Callbacks
from train.checkpoint.manifest import CheckpointError, FormatError
from train.checkpoint.run_directory import RunDirectory, RunDirectoryError, require_same
from train.checkpoint.store import Checkpoint
from train.config.schema import TrainConfig
from train.events import Warned


@dataclass(frozen=True)
class Beginning:
    """From where a run goes on, if not from its newest checkpoint.

    Attributes:
        fresh: From the first step; what there is of the run is set aside.
        from_step: From the checkpoint after so many steps; later ones are set aside.
        init_from: Directory of an artifact that the first step takes its weights from.
    """

    fresh: bool = False
    from_step: int | None = None
    init_from: Path | None = None


# From the newest checkpoint that is whole, or from the first step where there is none.
NEWEST = Beginning()


def find_checkpoint(
    place: RunDirectory, beginning: Beginning, callbacks: Callbacks
) -> Checkpoint | None:
    """Returns the checkpoint that a run goes on from, verified; None: it begins at the first step.

    Args:
        place: Of the run.
        beginning: What the user wants.
        callbacks: Told of damaged checkpoints.

    Raises:
        RunDirectoryError: There is no such checkpoint, or it is of another version of this program.
    """
    store = place.checkpoints
    try:
        if beginning.from_step is not None:
            return store.verified(beginning.from_step)
        return store.newest_good(lambda message: callbacks.tell(Warned(message)))
    except FormatError as error:
        raise RunDirectoryError(
            f"{error}; go on with the program that wrote it, or have it set aside with --fresh"
        ) from error
    except CheckpointError as error:
        others = [step for step in store.steps() if step != beginning.from_step]
        there = ", ".join(map(str, others)) or "none"
        raise RunDirectoryError(
            f"--from-step {beginning.from_step}: {error}; there are checkpoints of: {there}"
        ) from error


def check_goes_on(
    checkpoint: Checkpoint, config: TrainConfig, framework: Framework, world_size: int, data: str
) -> None:
    """Checks that a run goes on as it was when it was saved.

    Args:
        checkpoint: From which.
        config: Of the run.
        framework: That computes.
        world_size: Ranks that are to go on.
        data: Digest of the data set.

    Raises:
        RunDirectoryError: It was another run, or on other data, or only as many ranks can go on.
    """
    manifest = checkpoint.manifest
    require_same(
        checkpoint.directory,
        {"framework": manifest.framework, "data_digest": manifest.data_digest, **manifest.config},
        {"framework": framework, "data_digest": data, **config.model_dump(mode="json")},
    )
    compression = config.gradient_compression
    is_shared = compression.enabled and compression.ranks_per_node is not None
    if is_shared and manifest.world_size != world_size:
        raise RunDirectoryError(
            f"{checkpoint.directory} was written by {manifest.world_size} ranks, and {world_size} "
            "are to go on: what compression carries over with gradient_compression.ranks_per_node "
            f"is of no other number of them; give --nproc {manifest.world_size}"
        )
