"""What is compared: an artifact, what it was trained from, and what it was measured to do."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.artifact.v1 import artifact_pb2

from registry.artifact import VerifiedDescriptor, read_descriptor, read_payload
from registry.descriptor import TRAINING_CONFIG
from registry.errors import ArtifactError
from registry.evaluations import StoredEvaluation

# A configuration is a few kilobytes.
MAX_CONFIG_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Side:
    """One of two artifacts that are compared.

    Attributes:
        label: What its user calls it, such as "digits:1.2.0".
        artifact: Its descriptor.
        digest: Which identifies it.
        config: What it was trained from; None: it does not say.
        evaluation: What it was measured to do; None: only what its descriptor says.
    """

    label: str
    artifact: artifact_pb2.Artifact
    digest: str
    config: Mapping[str, Any] | None = None
    evaluation: StoredEvaluation | None = None


def read_side(label: str, directory: Path, evaluation: StoredEvaluation | None = None) -> Side:
    """Reads what is compared of an artifact, which is not its weights.

    Args:
        label: What its user calls it.
        directory: Of the artifact.
        evaluation: Of it.

    Raises:
        ArtifactError: The artifact is not as it was, or the evaluation is of another one.
    """
    found = read_descriptor(directory)
    if evaluation is not None and evaluation.evaluation.artifact_digest != found.digest:
        raise ArtifactError(
            f"the evaluation at {evaluation.directory} is of artifact "
            f"{evaluation.evaluation.artifact_digest}, not of {label}, which is {found.digest}"
        )
    return Side(label, found.artifact, found.digest, training_config(found), evaluation)


def training_config(found: VerifiedDescriptor) -> dict[str, Any] | None:
    """Returns what an artifact was trained from, verified; None: it does not say.

    Raises:
        ArtifactError: The file is not what the descriptor says, or no JSON object.
    """
    sizes = {file.path: file.size_bytes for file in found.artifact.files}
    if TRAINING_CONFIG not in sizes:
        return None
    path, size_bytes = found.directory / TRAINING_CONFIG, sizes[TRAINING_CONFIG]
    if size_bytes > MAX_CONFIG_BYTES:
        raise ArtifactError(f"{path} has {size_bytes} bytes; expected {MAX_CONFIG_BYTES} at most")
    content = read_payload(found, TRAINING_CONFIG)
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ArtifactError(f"{path} is not a JSON object; expected sections by name")
    return config
