"""From a verified artifact to a function that predicts, in either framework."""

import json
from collections.abc import Callable
from typing import Literal

import numpy as np
from hpc.artifact.v1 import artifact_pb2

from models.config import VisionTransformerConfig, parse_model
from models.weights import check_weights
from registry.artifact import LoadedArtifact

Framework = Literal["flax", "torch"]
Predict = Callable[[np.ndarray], np.ndarray]

_TRAINED_IN: dict[int, Framework] = {
    artifact_pb2.FRAMEWORK_FLAX: "flax",
    artifact_pb2.FRAMEWORK_TORCH: "torch",
}


def check_model(loaded: LoadedArtifact) -> VisionTransformerConfig:
    """The network of an artifact, once it is certain that the weights belong to it.

    Imports neither framework, so that a server can refuse an artifact before it starts anything.

    Raises:
        ModelConfigError: this tree has no such architecture, or not with this configuration.
        WeightsError: a tensor is missing, unexpected, or of the wrong shape or dtype.
    """
    model = loaded.artifact.model
    config = parse_model(model.architecture, json.loads(model.config_json))
    check_weights(config, loaded.tensors)
    return config


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
        ModelConfigError, WeightsError: as check_model.
    """
    config = check_model(loaded)
    if (framework or _TRAINED_IN[loaded.artifact.framework]) == "flax":
        from models.flax.predict import predict_fn
    else:
        from models.torch.predict import predict_fn
    return predict_fn(config, loaded.tensors)
