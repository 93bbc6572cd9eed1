"""A small published model, for tests."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from hpc.artifact.v1 import artifact_pb2

from models.architecture import parse_model
from models.weights import weight_shapes
from registry.artifact import LoadedArtifact, load, publish
from registry.example import MODEL_CONFIG, example_artifact

# How a picture becomes an image of 8 by 8, its values from 0 to 1.
GREY_8X8 = artifact_pb2.ImagePreprocessing(
    height=8,
    width=8,
    color_mode=artifact_pb2.COLOR_MODE_GREY,
    resampling=artifact_pb2.RESAMPLING_BOX,
    fit=artifact_pb2.FIT_PAD,
    scale=1 / 255,
)


def example_images(batch: int, image_size: int = 8) -> np.ndarray:
    """Random images [batch, image_size, image_size, 1] float32, the same every time."""
    shape = (batch, image_size, image_size, 1)
    return np.random.default_rng(7).random(shape, dtype=np.float32)


def publish_example(
    directory: Path,
    image_size: int = 8,
    *,
    version: str = "1.2.3",
    seed: int = 3,
    image_preprocessing: artifact_pb2.ImagePreprocessing | None = None,
    network: Mapping[str, object] = MappingProxyType({}),
) -> LoadedArtifact:
    """Publishes a tiny vision transformer with random weights for square images.

    Args:
        directory: where to.
        image_size: of the images.
        version: of the artifact.
        seed: of the weights.
        image_preprocessing: how an image becomes the input; None: the artifact does not say.
        network: keys of its configuration that differ, such as more blocks for a slower one.
    """
    patches = {"image_size": image_size, "patch_size": 4, "num_channels": 1}
    config = MODEL_CONFIG | {"input": {"patches": patches}} | dict(network)
    artifact = example_artifact()
    artifact.version = version
    artifact.model.config_json = json.dumps(config)
    artifact.inputs[0].shape[1:3] = [image_size, image_size]
    if image_preprocessing is not None:
        artifact.image_preprocessing.CopyFrom(image_preprocessing)
    rng = np.random.default_rng(seed)
    shapes = weight_shapes(parse_model(artifact.model.architecture, config))
    # Every weight is random, the head too, so that a lost or transposed tensor changes the logits.
    weights = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    publish(directory, artifact, {n: w.astype(np.float32) for n, w in weights.items()})
    return load(directory)
