"""From a verified artifact to a function that predicts, in either framework."""

import json
from collections.abc import Callable
from typing import Literal

import numpy as np
from hpc.artifact.v1 import artifact_pb2

from models.config import VisionTransformerConfig, parse_model
from registry.artifact import LoadedArtifact

Framework = Literal["flax", "torch"]
Predict = Callable[[np.ndarray], np.ndarray]

_TRAINED_IN: dict[int, Framework] = {
    artifact_pb2.FRAMEWORK_FLAX: "flax",
    artifact_pb2.FRAMEWORK_TORCH: "torch",
}


def network_of(artifact: artifact_pb2.Artifact) -> VisionTransformerConfig:
    """The network that an artifact describes.

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
        A function from images [batch, height, width, channels] float32 to logits
        [batch, num_classes] float32.

    Raises:
        ModelConfigError: as network_of.
        WeightsError: a tensor is missing, unexpected, or of the wrong shape or dtype.
    """
    config = network_of(loaded.artifact)
    if (framework or _TRAINED_IN[loaded.artifact.framework]) == "flax":
        from models.flax.predict import predict_fn
    else:
        from models.torch.predict import predict_fn
    return predict_fn(config, loaded.tensors)
