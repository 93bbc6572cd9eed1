"""From a verified artifact to a function that predicts, in either framework."""

import json

from hpc.artifact.v1 import artifact_pb2

from models.architecture import Model, parse_model
from models.network import Framework, Predict
from registry.artifact import LoadedArtifact

_TRAINED_IN: dict[int, Framework] = {
    artifact_pb2.FRAMEWORK_FLAX: "flax",
    artifact_pb2.FRAMEWORK_TORCH: "torch",
}


def model_of(artifact: artifact_pb2.Artifact) -> Model:
    """The model that an artifact describes.

    Imports neither framework, so that a server can refuse an artifact before it starts anything.

    Raises:
        ModelConfigError: this tree has no such architecture, or not with this configuration.
    """
    return parse_model(artifact.model.architecture, json.loads(artifact.model.config_json))


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
    if (framework or _TRAINED_IN[loaded.artifact.framework]) == "flax":
        from models.flax.predict import predict_fn
    else:
        from models.torch.predict import predict_fn
    return predict_fn(model, loaded.tensors)
