"""The rules of what a descriptor says of images, beside those of `registry.descriptor`.

Reference: ImagePreprocessing of proto/hpc/artifact/v1/artifact.proto states each rule.
"""

import math
from collections.abc import Sequence

from hpc.artifact.v1 import artifact_pb2

from registry.errors import ArtifactError

# By the number of channels that an image of it has.
CHANNELS = {artifact_pb2.COLOR_MODE_GREY: 1, artifact_pb2.COLOR_MODE_RGB: 3}

_FLOATS = ("FP16", "BF16", "FP32", "FP64")


def check_image_preprocessing(artifact: artifact_pb2.Artifact) -> None:
    """Raises ArtifactError, naming the field, if `image_preprocessing` breaks a rule."""
    steps = artifact.image_preprocessing
    _require(
        len(artifact.inputs) == 1,
        f"there are {len(artifact.inputs)} inputs; expected one, the image",
    )
    for field, kinds in (
        ("color_mode", artifact_pb2.ColorMode),
        ("resampling", artifact_pb2.Resampling),
        ("fit", artifact_pb2.Fit),
    ):
        known = [value for value in kinds.values() if value]
        _require(
            getattr(steps, field) in known,
            f"{field} is {getattr(steps, field)}; expected one of "
            f"{', '.join(map(kinds.Name, known))}",
        )
    channels = CHANNELS[steps.color_mode]
    _check_input(artifact.inputs[0], [steps.height, steps.width, channels])
    _require(
        0 < steps.scale < math.inf, f"scale is {steps.scale}; expected a finite number above 0"
    )
    _check_each_channel("mean", steps.mean, channels, above=-math.inf)
    _check_each_channel("std", steps.std, channels, above=0)
    _require(
        not steps.light_on_dark or steps.color_mode == artifact_pb2.COLOR_MODE_GREY,
        "light_on_dark is true; expected false, unless color_mode is COLOR_MODE_GREY",
    )


def _check_input(spec: artifact_pb2.TensorSpec, sizes: Sequence[int]) -> None:
    _require(
        spec.datatype in _FLOATS,
        f"the input {spec.name!r} is {spec.datatype}; expected one of {', '.join(_FLOATS)}",
    )
    fits = len(spec.shape) == 4 and all(
        size > 0 and of_input in (-1, size)
        for size, of_input in zip(sizes, spec.shape[1:], strict=True)
    )
    _require(
        fits,
        f"height, width and channels are {list(sizes)}; expected those of the input {spec.name!r}, "
        f"of shape {list(spec.shape)}, and at least 1",
    )


def _check_each_channel(field: str, values: Sequence[float], channels: int, above: float) -> None:
    right = len(values) in (0, channels) and all(above < value < math.inf for value in values)
    _require(
        right,
        f"{field} is {list(values)}; expected none or {channels} finite numbers"
        + ("" if above == -math.inf else f" above {above:g}"),
    )


def _require(holds: object, message: str) -> None:
    if not holds:
        raise ArtifactError(f"image_preprocessing: {message}")
