"""What the gateway tells clients about the one model it serves."""

from pathlib import Path
from typing import NamedTuple

from hpc.artifact.v1 import artifact_pb2

from registry.artifact import ArtifactError, VerifiedDescriptor
from serving.predictor import model_of
from serving.signature import DTYPES, TensorSpec


class ServedModel(NamedTuple):
    """Name, version and signature of a model, where its artifact is, and free-form facts."""

    name: str
    version: str
    platform: str
    directory: Path
    digest: str
    input: TensorSpec
    output: TensorSpec
    properties: dict[str, str]


def served_model(descriptor: VerifiedDescriptor, framework: str | None = None) -> ServedModel:
    """Describes the model of an artifact.

    Args:
        descriptor: of the artifact; its weights are not needed.
        framework: the framework that will compute, by default the one that trained it.

    Raises:
        ModelConfigError: as model_of.
        ArtifactError: its signature is not one tensor in and one tensor out, of fixed-size
            datatypes, which is all that a model of this tree takes and gives.
    """
    artifact = descriptor.artifact
    trained_in = artifact_pb2.Framework.Name(artifact.framework).removeprefix("FRAMEWORK_").lower()
    if len(artifact.inputs) != 1 or len(artifact.outputs) != 1:
        raise ArtifactError(
            f"{artifact.name} has {len(artifact.inputs)} inputs and {len(artifact.outputs)} "
            "outputs; only models with one of each can be served"
        )
    limit = model_of(artifact).signature.input.limit
    return ServedModel(
        name=artifact.name,
        version=artifact.version,
        platform=f"{framework or trained_in}_safetensors",
        directory=descriptor.directory,
        digest=descriptor.digest,
        input=_tensor_spec(artifact.inputs[0])._replace(limit=limit),
        output=_tensor_spec(artifact.outputs[0]),
        properties={
            "architecture": artifact.model.architecture,
            "artifact_sha256": descriptor.digest,
            "trained_in": trained_in,
        },
    )


def _tensor_spec(tensor: artifact_pb2.TensorSpec) -> TensorSpec:
    if tensor.datatype not in DTYPES:
        raise ArtifactError(
            f"tensor {tensor.name!r} has datatype {tensor.datatype}, which cannot be served; "
            f"expected one of {', '.join(DTYPES)}"
        )
    return TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape))
