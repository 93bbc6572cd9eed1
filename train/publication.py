"""From trained weights to a published artifact."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hpc.artifact.v1 import artifact_pb2

from base.provenance import host, source_state
from data.dataset import ExampleSpec
from models.network import Framework, TensorSpec
from registry.artifact import publish, read_descriptor
from registry.descriptor import TRAINING_CONFIG
from registry.programs.formats import PROBE_PATH
from train.config.schema import TrainConfig
from train.evaluation import Evaluation
from train.model_card import CARD_PATH, model_card
from train.portable import Portable

_FRAMEWORKS = {
    "flax": artifact_pb2.FRAMEWORK_FLAX,
    "torch": artifact_pb2.FRAMEWORK_TORCH,
}

# NumPy's names to those of the Open Inference Protocol.
_DATATYPES = {
    "bool": "BOOL",
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}


class Publication(NamedTuple):
    """What was published, and where."""

    directory: Path
    artifact: artifact_pb2.Artifact


def publication_at(directory: Path) -> Publication:
    """Returns what was published there.

    Raises:
        ArtifactError: It is not as it was.
    """
    return Publication(directory, read_descriptor(directory).artifact)


def publish_model(
    directory: Path,
    config: TrainConfig,
    weights: Mapping[str, np.ndarray],
    evaluation: Evaluation,
    *,
    framework: Framework,
    libraries: Mapping[str, str],
    environment: Mapping[str, str],
    device: str,
    data_digest: str,
    started_at: datetime,
    num_steps: int,
    run_name: str = "",
    parent: artifact_pb2.Parent | None = None,
    portable: Callable[[artifact_pb2.Artifact], Portable] = lambda artifact: Portable(),
) -> Publication:
    """Publishes a model that has just been trained.

    Args:
        directory: Where to; see `registry.artifact.publish`.
        config: The run that has just ended.
        weights: Canonical weights.
        evaluation: Of them, on the held-out data.
        framework: What it was trained in.
        libraries: Versions of what training used, by distribution.
        environment: What else can change the result, by name.
        device: What it was trained on, for a human.
        data_digest: SHA-256 of the data set, in hex.
        started_at: When training began, with a time zone.
        num_steps: How many updates were made.
        run_name: Of the run's directory.
        parent: The artifact whose weights training began with, if any.
        portable: Gives the programs, told the descriptor without them.

    Raises:
        ArtifactError: `directory` cannot be written.
    """
    source = source_state()
    run = artifact_pb2.TrainingRun(
        git_commit=source.commit,
        git_dirty=source.dirty,
        config_digest=config.digest,
        data_digest=data_digest,
        seed=config.run.seed,
        host=host(device),
        library_versions=libraries,
        environment=environment,
        started_at=started_at,
        finished_at=max(started_at, datetime.now(UTC)),  # the clock may have been set back
        steps=num_steps,
        run=run_name,
    )
    model = config.model
    artifact = artifact_pb2.Artifact(
        name=config.artifact.name,
        version=config.artifact.version,
        framework=_FRAMEWORKS[framework],
        model=artifact_pb2.Model(
            architecture=model.architecture, config_json=model.config.model_dump_json()
        ),
        inputs=[to_proto(model.signature.input)],
        outputs=[to_proto(model.signature.output)],
        metrics=evaluation.metrics,
        metric_intervals={
            name: artifact_pb2.Interval(low=low, high=high)
            for name, (low, high) in evaluation.intervals.items()
        },
        num_evaluated=evaluation.num_examples,
        training_run=run,
        class_names=_class_names(config),
        parent=parent,
        image_preprocessing=_image_preprocessing(config),
    )
    added = portable(artifact)
    artifact.programs.extend(added.programs)
    artifact.probe_path = PROBE_PATH if added.programs else ""
    files = {
        CARD_PATH: model_card(artifact, weights, config).encode(),
        TRAINING_CONFIG: config.canonical_json.encode(),
        **added.files,
    }
    return Publication(directory, publish(directory, artifact, weights, files))


def _class_names(config: TrainConfig) -> tuple[str, ...]:
    """Returns the names of what the last dimension of the output is, if it is named classes."""
    names, shape = config.data.describe().class_names, config.model.signature.output.shape
    return names if names is not None and shape[-1:] == (len(names),) else ()


def _image_preprocessing(config: TrainConfig) -> artifact_pb2.ImagePreprocessing | None:
    """Returns how an image becomes the network's input, if it has the shape of the source's."""
    examples, network = config.data.describe(), config.model.signature.input
    same = tuple(network.shape) == tuple(examples.input_shape)
    return to_image_preprocessing(examples) if same else None


def to_image_preprocessing(examples: ExampleSpec) -> artifact_pb2.ImagePreprocessing | None:
    """Returns how an image becomes an example as descriptors have it; None: none does."""
    steps = examples.image_preprocessing
    if steps is None:
        return None
    height, width, _ = examples.input_shape
    return artifact_pb2.ImagePreprocessing(
        height=height,
        width=width,
        color_mode=artifact_pb2.ColorMode.Value(f"COLOR_MODE_{steps.color_mode.upper()}"),
        resampling=artifact_pb2.Resampling.Value(f"RESAMPLING_{steps.resampling.upper()}"),
        fit=artifact_pb2.Fit.Value(f"FIT_{steps.fit.upper()}"),
        scale=steps.scale,
        mean=steps.mean,
        std=steps.std,
        light_on_dark=steps.light_on_dark,
    )


def to_proto(spec: TensorSpec) -> artifact_pb2.TensorSpec:
    """Returns a tensor of a network's signature as descriptors have it."""
    return artifact_pb2.TensorSpec(
        name=spec.name, datatype=_DATATYPES[spec.dtype], shape=[-1, *spec.shape]
    )
