"""What is known of a model that is served, without having its weights."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpc.artifact.v1 import artifact_pb2

from models.architecture import Model
from models.network import Framework
from registry.artifact import ArtifactError, VerifiedDescriptor
from registry.programs.formats import FORMATS
from serving.core.signature import DTYPES, TensorSpec
from serving.predictor import COMPILED_PER_SIZE, network_or_program, trained_in

# With which networks of this tree have sequences of tokens filled up.
PADDING = -1


@dataclass(frozen=True)
class ServedModel:
    """One version of a model: its signature, where its artifact is, and facts for people.

    Attributes:
        name: under which it is served.
        version: its semantic version, never an alias.
        platform: the framework that computes and the format of the network, as the Open Inference
            Protocol has it: "flax_safetensors", "jax_stablehlo", "torch_export".
        directory: of the artifact, verified.
        digest: of the artifact, by which replicas check that they hold the same.
        inputs: what a request holds; the first dimension of each is the batch.
        outputs: what an answer holds.
        max_batch_size: examples in a request, and in a batch.
        class_names: of a classifier, in the order of the last dimension of its output; or none.
        image_preprocessing: how an image becomes the one input; None: the artifact does not say.
        properties: free-form facts, in ModelMetadata.
    """

    name: str
    version: str
    platform: str
    directory: Path
    digest: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int = 64
    class_names: tuple[str, ...] = ()
    image_preprocessing: artifact_pb2.ImagePreprocessing | None = None
    properties: dict[str, str] = field(default_factory=dict)


def served_model(
    descriptor: VerifiedDescriptor,
    *,
    name: str = "",
    framework: Framework | None = None,
    max_batch_size: int = 64,
) -> ServedModel:
    """Describes the model of an artifact.

    Args:
        descriptor: of the artifact; its weights are not needed.
        name: under which it is served; by default its own.
        framework: the framework that will compute, by default the one that trained it.
        max_batch_size: of requests and batches.

    Raises:
        ArtifactError: it is no network of this tree and has no program for this framework, a tensor
            has a datatype that cannot be served, or requests would wait for a compilation.
    """
    artifact = descriptor.artifact
    computed_by = network_or_program(artifact, framework)
    if isinstance(computed_by, str):
        platform = _platform(computed_by)
        inputs = [tensor_spec(tensor) for tensor in artifact.inputs]
        outputs = [tensor_spec(tensor) for tensor in artifact.outputs]
        if computed_by == COMPILED_PER_SIZE:
            _check_sizes(inputs)
    else:
        platform = f"{framework or trained_in(artifact)}_safetensors"
        inputs, outputs = _of_network(artifact, computed_by)
    shorter = [spec.name for spec in inputs if spec.padding is not None]
    return ServedModel(
        name=name or artifact.name,
        version=artifact.version,
        platform=platform,
        directory=descriptor.directory,
        digest=descriptor.digest,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        max_batch_size=max_batch_size,
        class_names=tuple(artifact.class_names),
        image_preprocessing=(
            artifact.image_preprocessing if artifact.HasField("image_preprocessing") else None
        ),
        properties={
            "architecture": artifact.model.architecture,
            "artifact_sha256": descriptor.digest,
            "max_batch_size": str(max_batch_size),
            "trained_in": trained_in(artifact),
        }
        | ({"shorter_sequences": ", ".join(shorter)} if shorter else {}),
    )


def _check_sizes(inputs: Sequence[TensorSpec]) -> None:
    """Refuses what cannot be compiled before the first request."""
    for spec in inputs:
        if -1 in spec.shape[1:]:
            raise ArtifactError(
                f"input {spec.name!r} is of any size, {list(spec.shape)}: its program "
                f"({COMPILED_PER_SIZE}) is compiled for each size, for which requests would wait; "
                "expected sizes for all but the first dimension (with padding, sequences may be "
                "shorter), or a program that is not compiled, such as torch_export"
            )


def _platform(program: str) -> str:
    """Of a portable program: the library that runs it, and its format."""
    library = FORMATS[program].library
    return program if program.startswith(f"{library}_") else f"{library}_{program}"


def _of_network(
    artifact: artifact_pb2.Artifact, network: Model
) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """The input and the output of a network of this tree, which knows more of them."""
    (given,), (made,) = artifact.inputs, artifact.outputs
    limit = network.signature.input.limit
    source, result = tensor_spec(given), tensor_spec(made)
    if limit is not None:
        source = source._replace(limit=limit, padding=PADDING)
        if _has_positions(made, given):
            result = result._replace(follows=given.name)
    return [source], [result]


def _has_positions(output: artifact_pb2.TensorSpec, tokens: artifact_pb2.TensorSpec) -> bool:
    """Whether an output says something of each token, and not of the sequence as a whole."""
    return len(output.shape) > 2 and output.shape[1] == tokens.shape[1]


def tensor_spec(tensor: artifact_pb2.TensorSpec) -> TensorSpec:
    """A tensor of an artifact's signature.

    Raises:
        ArtifactError: it has a datatype that cannot be served, such as BYTES.
    """
    if tensor.datatype not in DTYPES:
        raise ArtifactError(
            f"tensor {tensor.name!r} has datatype {tensor.datatype}, which cannot be served; "
            f"expected one of {', '.join(DTYPES)}"
        )
    padding = None
    if tensor.HasField("padding"):
        # As JSON has it, too: a whole number or a boolean where the datatype is of these.
        padding = DTYPES[tensor.datatype].type(tensor.padding).item()
    return TensorSpec(
        tensor.name, tensor.datatype, tuple(tensor.shape), padding=padding, follows=tensor.follows
    )
