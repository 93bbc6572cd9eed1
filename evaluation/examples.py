"""Which examples an artifact is measured on, and whether it can be."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
from hpc.artifact.v1 import artifact_pb2
from pydantic import ValidationError

from base.config import explain
from data.dataset import ExampleSpec, Split
from models.network import Signature, TensorSpec
from registry.artifact import VerifiedDescriptor
from registry.comparison.sides import training_config
from serving.predictor import model_of
from train.config.data import DataConfig
from train.config.schema import TrainConfig
from train.tasks.table import TASKS
from train.tasks.task import Task

# Examples that are hashed at once: of windows that overlap the whole is more than memory holds.
_DIGEST_ROWS = 1024

SPLIT = "test"

# Names of the Open Inference Protocol to NumPy's.
_DTYPES = {
    "BOOL": "bool",
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}


class EvaluationError(ValueError):
    """An artifact that cannot be measured so; why, and what to do."""


class Examples(NamedTuple):
    """What is measured, and on what.

    Attributes:
        task: How well an answer is.
        data: Where examples come from.
        spec: What these are.
    """

    task: Task[Any]
    data: DataConfig
    spec: ExampleSpec


def config_of(found: VerifiedDescriptor) -> TrainConfig:
    """Returns the configuration that an artifact was trained from.

    Raises:
        EvaluationError: It holds none, or one that this program does not know.
        ArtifactError: The file is not what the descriptor says.
    """
    content = training_config(found)
    if content is None:
        raise EvaluationError(
            f"{found.artifact.name} {found.artifact.version} does not hold the configuration that "
            "it was trained from, which says on what to measure it; name one, such as "
            "config/digits.yaml"
        )
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(explain(error, TrainConfig)[:3])
        raise EvaluationError(
            f"the configuration that {found.artifact.name} {found.artifact.version} was trained "
            f"from is none of this program's: {problems}; name another one"
        ) from error


def examples_of(artifact: artifact_pb2.Artifact, config: TrainConfig) -> Examples:
    """Returns on what an artifact is measured, as the sections `data` and `task` say.

    Raises:
        EvaluationError: It takes or gives something else than these examples are.
    """
    spec, task = config.data.describe(), TASKS[config.task]
    name = f"{artifact.name} {artifact.version}"
    try:
        task.check(_signature(artifact, spec, task), spec)
        _check_limit(artifact, spec)
    except ValueError as error:
        raise EvaluationError(
            f"{name} cannot be measured on data.source {config.data.source!r}: it {error}; name a "
            "configuration of data that it was made for"
        ) from error
    return Examples(task, config.data, spec)


def _signature(artifact: artifact_pb2.Artifact, spec: ExampleSpec, task: Task[Any]) -> Signature:
    """Returns the artifact's signature of one example; a size that may be any is the examples'."""
    if len(artifact.inputs) != 1 or len(artifact.outputs) != 1:
        raise ValueError(
            f"has {len(artifact.inputs)} inputs and {len(artifact.outputs)} outputs; only one of "
            "each can be measured"
        )
    return Signature(
        _tensor(artifact.inputs[0], spec.input_shape),
        _tensor(artifact.outputs[0], task.output_shape(spec)),
    )


def _tensor(tensor: artifact_pb2.TensorSpec, of_examples: tuple[int, ...]) -> TensorSpec:
    sizes = tuple(tensor.shape[1:])
    if len(sizes) == len(of_examples):
        sizes = tuple(
            other if size == -1 else size for size, other in zip(sizes, of_examples, strict=True)
        )
    return TensorSpec(tensor.name, _DTYPES.get(tensor.datatype, tensor.datatype), sizes)


def _check_limit(artifact: artifact_pb2.Artifact, spec: ExampleSpec) -> None:
    """Checks that the model has every token that the examples have."""
    if not np.issubdtype(np.dtype(spec.input_dtype), np.integer) or spec.num_classes is None:
        return
    limit = model_of(artifact).signature.input.limit
    if limit is not None and spec.target_shape and spec.num_classes > limit:
        raise ValueError(f"knows {limit} tokens, but the {spec.unit} have {spec.num_classes}")


def examples_digest(split: Split) -> str:
    """Returns the SHA-256, in hex, of inputs and targets in order, with their types and shapes."""
    sha256 = hashlib.sha256()
    for array in (split.inputs, split.targets):
        sha256.update(f"{array.dtype.newbyteorder('<').str} {array.shape}\n".encode())
        for start in range(0, len(array), _DIGEST_ROWS):
            part = array[start : start + _DIGEST_ROWS]
            sha256.update(part.astype(part.dtype.newbyteorder("<"), copy=False).tobytes())
    return sha256.hexdigest()
