"""What computes an artifact: a network of this tree, or a portable program that it brings along."""

import json

from hpc.artifact.v1 import artifact_pb2

from models.architecture import Model, ModelConfigError, parse_model
from models.network import Framework, Predict
from registry.artifact import ArtifactError, LoadedArtifact
from registry.programs.program import program_names

_TRAINED_IN: dict[int, Framework] = {
    artifact_pb2.FRAMEWORK_FLAX: "flax",
    artifact_pb2.FRAMEWORK_TORCH: "torch",
}

# The program that XLA compiles anew for each size of its inputs.
COMPILED_PER_SIZE = "stablehlo"

# The program that each framework runs.
_PROGRAMS: dict[Framework, str] = {"flax": COMPILED_PER_SIZE, "torch": "torch_export"}


def model_of(artifact: artifact_pb2.Artifact) -> Model:
    """The model that an artifact describes.

    Imports neither framework, so that a server can refuse an artifact before it starts anything.

    Raises:
        ModelConfigError: this tree has no such architecture, or not with this configuration.
    """
    return parse_model(artifact.model.architecture, json.loads(artifact.model.config_json))


def network_or_program(
    artifact: artifact_pb2.Artifact, framework: Framework | None = None
) -> Model | str:
    """What is to compute an artifact: a network of this tree, or the name of a portable program.

    A network of this tree takes one tensor and gives one, and has the fast kernels. Every other
    artifact is computed by one of its programs. Imports neither framework, as `model_of`.

    Args:
        artifact: Its descriptor.
        framework: Who computes; None for the framework that trained it, if that can.

    Raises:
        ArtifactError: There is neither such a network nor a program for this framework.
    """
    reason = "it has more than one input or output"
    if len(artifact.inputs) == 1 and len(artifact.outputs) == 1:
        try:
            return model_of(artifact)
        except ModelConfigError as error:
            reason = str(error)
    has = program_names(artifact)
    preferred = _PROGRAMS[framework or trained_in(artifact)]
    if preferred in has:
        return preferred
    if has and framework is None:
        return has[0]
    of_it = f" for {framework}, but {', '.join(has)}" if has else ""
    raise ArtifactError(
        f"{artifact.name} {artifact.version} cannot be computed: it has no portable program"
        f"{of_it}, and is no network of this tree: {reason}"
    )


def trained_in(artifact: artifact_pb2.Artifact) -> Framework:
    """The framework that an artifact's weights are of."""
    return _TRAINED_IN[artifact.framework]


def predictor(loaded: LoadedArtifact, framework: Framework | None = None) -> Predict:
    """The model of an artifact, ready to call.

    Args:
        loaded: the artifact.
        framework: which framework computes; by default the one that trained it. Only that
            framework is imported.

    Returns:
        A function of a batch, as the artifact's inputs and outputs say.

    Raises:
        ModelConfigError: as model_of.
        WeightsError: a tensor is missing, unexpected, or of the wrong shape or dtype.
    """
    model = model_of(loaded.artifact)
    if (framework or trained_in(loaded.artifact)) == "flax":
        from models.flax.predict import predict_fn
    else:
        from models.torch.predict import predict_fn
    return predict_fn(model, loaded.tensors)
