"""From trained weights to a published artifact."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from hpc.artifact.v1 import artifact_pb2

from models.config import VisionTransformerConfig
from registry.artifact import ArtifactError, publish
from train.config import TrainConfig
from train.provenance import host, library_versions, source_state

_FRAMEWORKS = {
    "flax": artifact_pb2.FRAMEWORK_FLAX,
    "torch": artifact_pb2.FRAMEWORK_TORCH,
}
_SHARED_LIBRARIES = ("numpy", "scikit-learn")


def require_vacant(directory: Path) -> None:
    """Checks that an artifact can be published to `directory`, before hours are spent on one.

    Raises:
        ArtifactError: Something is there already, or it cannot be made there.
    """
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise ArtifactError(
            f"{directory} exists and is not empty; artifacts never change: choose a new directory"
        )
    parent = next(path for path in directory.absolute().parents if path.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise ArtifactError(f"cannot write to {parent}; choose a directory that can be written")


def publish_model(
    directory: Path,
    config: TrainConfig,
    weights: Mapping[str, np.ndarray],
    metrics: Mapping[str, float],
    *,
    framework: Literal["flax", "torch"],
    libraries: Sequence[str],
    device: str,
    data_digest: str,
    started_at: datetime,
) -> artifact_pb2.Artifact:
    """Publishes a model that has just been trained.

    Args:
        directory: Where to; see `registry.artifact.publish`.
        config: The run that has just ended.
        weights: Canonical weights.
        metrics: On the held-out data.
        framework: What it was trained in.
        libraries: Distributions that training used and whose versions are worth keeping.
        device: What it was trained on, for a human.
        data_digest: SHA-256 of the data set, in hex.
        started_at: When training began, with a time zone.

    Raises:
        ArtifactError: `directory` is taken or cannot be written.
    """
    source = source_state()
    run = artifact_pb2.TrainingRun(
        git_commit=source.commit,
        git_dirty=source.dirty,
        config_digest=config.digest,
        data_digest=data_digest,
        seed=config.run.seed,
        host=host(device),
        library_versions=library_versions([*libraries, *_SHARED_LIBRARIES]),
        started_at=started_at,
        finished_at=datetime.now(UTC),
        steps=config.run.num_steps,
    )
    model = config.model.config
    artifact = artifact_pb2.Artifact(
        name=config.artifact.name,
        version=config.artifact.version,
        framework=_FRAMEWORKS[framework],
        model=artifact_pb2.Model(
            architecture=config.model.architecture, config_json=model.model_dump_json()
        ),
        inputs=[_image_spec(model)],
        outputs=[_logits_spec(model)],
        metrics=metrics,
        training_run=run,
    )
    return publish(directory, artifact, weights)


def _image_spec(model: VisionTransformerConfig) -> artifact_pb2.TensorSpec:
    return artifact_pb2.TensorSpec(name="image", datatype="FP32", shape=[-1, *model.image_shape])


def _logits_spec(model: VisionTransformerConfig) -> artifact_pb2.TensorSpec:
    return artifact_pb2.TensorSpec(name="logits", datatype="FP32", shape=[-1, model.num_classes])
