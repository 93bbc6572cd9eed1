"""Residuals in DeepSpeed's checkpoints.

They lie in a directory `gradient_compression` beside DeepSpeed's own files of a checkpoint, in the
units of the loss scale that DeepSpeed saves too. What becomes of them when the number of
ranks changes is said in `checkpoint.py`; whether the rest of a checkpoint can be loaded by another
number of ranks is DeepSpeed's to say.
"""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import deepspeed

from comm.torch import checkpoint
from comm.torch.feedback import Feedback
from comm.torch.residuals import Residuals

# Beside DeepSpeed's files of one checkpoint.
FOLDER = "gradient_compression"


def loss_scale(engine: deepspeed.DeepSpeedEngine) -> float:
    """Returns what the loss is multiplied by before it is differentiated."""
    return float(getattr(engine.optimizer, "loss_scale", 1.0))


def save_residuals(
    save_dir: str | os.PathLike[str],
    tag: str,
    residuals: Residuals,
    engine: deepspeed.DeepSpeedEngine,
) -> None:
    """Writes the residuals of all ranks into a checkpoint; every rank calls this."""
    if residuals.feedbacks is None:
        return
    residuals.follow(loss_scale(engine))
    folder = Path(save_dir) / tag / FOLDER
    checkpoint.save(folder, residuals.feedbacks, ranks_per_node=residuals.ranks_per_node)


def load_residuals(
    loaded_file: str | os.PathLike[str],
    residuals: Residuals,
    engine: deepspeed.DeepSpeedEngine,
    *,
    fresh: bool,
) -> None:
    """Replaces the residuals by those of a checkpoint.

    Args:
        loaded_file: One of those that DeepSpeed read.
        residuals: To be replaced.
        engine: After its own load.
        fresh: Start without residuals, as the optimizer does without its state.

    Raises:
        CheckpointError: The residuals are there but not complete.
    """
    if residuals.feedbacks is None:
        return
    folder = Path(loaded_file).parent / FOLDER
    if not fresh and not folder.exists():
        warnings.warn(
            f"{folder} does not exist: the checkpoint was written without gradient compression, "
            "or without error feedback; residuals start at zero, so what one step would have "
            "corrected is lost, once",
            stacklevel=2,
        )
        fresh = True
    loaded: Mapping[str, Feedback] = {}
    if not fresh:
        per_node = residuals.ranks_per_node
        loaded = checkpoint.load(folder, ranks_per_node=per_node, device=engine.device).feedbacks
    residuals.replace(loaded, loss_scale(engine))
