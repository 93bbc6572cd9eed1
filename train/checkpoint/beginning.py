"""Where a run begins, or goes on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from train.checkpoint.manifest import CheckpointError
from train.checkpoint.run_directory import RunDirectory, RunDirectoryError
from train.events import Callback, Resumed, Warned, tell

# In place of a step, of a run that has published its model.
ENDED = -1


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


def first_step(
    place: RunDirectory, beginning: Beginning, world_size: int, callbacks: Sequence[Callback]
) -> int:
    """Returns how many steps the run has behind it, whose checkpoint was verified; or `ENDED`.

    Args:
        place: Of the run.
        beginning: What the user wants.
        world_size: Ranks that are to go on.
        callbacks: Told of damaged checkpoints, and from which one it goes on.

    Raises:
        RunDirectoryError: There is no such checkpoint, or it is of other ranks.
    """
    store = place.checkpoints
    if beginning.from_step is None and place.artifact.exists():
        tell(callbacks, Warned(f"the run in {place.path} has ended: there is nothing to train"))
        return ENDED
    if beginning.from_step is not None:
        try:
            store.verified(beginning.from_step)
        except CheckpointError as error:
            there = ", ".join(map(str, store.steps())) or "none"
            raise RunDirectoryError(
                f"--from-step {beginning.from_step}: {error}; there are checkpoints of: {there}"
            ) from error
        place.set_aside_artifact()
        store.leave_after(beginning.from_step)
    checkpoint = store.newest_good(lambda message: tell(callbacks, Warned(message)))
    if checkpoint is None:
        return 0
    manifest = checkpoint.manifest
    if manifest.world_size != world_size:
        raise RunDirectoryError(
            f"{checkpoint.directory} was written by {manifest.world_size} ranks, and {world_size} "
            f"are to go on; give --nproc {manifest.world_size}"
        )
    tell(callbacks, Resumed(manifest.step, f"from {checkpoint.directory}"))
    return manifest.step
