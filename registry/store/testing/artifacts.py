"""Artifacts of a few bytes, to be published to stores under test."""

from pathlib import Path

import numpy as np

from registry.artifact import publish
from registry.example import example_artifact, example_tensors

NAME = "digits"


def write_artifact(
    directory: Path,
    *,
    version: str = "1.0.0",
    name: str = NAME,
    salt: int = 0,
    num_classes: int = 10,
) -> Path:
    """Writes an artifact.

    Args:
        directory: Where to.
        version: Of its descriptor.
        name: Of the model.
        salt: Artifacts of different ones have different weights.
        num_classes: The size of its output, by which its signature differs.
    """
    artifact = example_artifact()
    artifact.name, artifact.version = name, version
    artifact.outputs[0].shape[1] = num_classes
    publish(directory, artifact, {**example_tensors(), "salt": np.array(salt)})
    return directory
