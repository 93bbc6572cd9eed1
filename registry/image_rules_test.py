"""What a descriptor says of images fits its input, and the message names the field."""

from collections.abc import Callable

import pytest
from hpc.artifact.v1 import artifact_pb2

from registry.descriptor import check
from registry.errors import ArtifactError
from registry.example import example_artifact


def artifact_of_images() -> artifact_pb2.Artifact:
    """An artifact whose one input is [-1, 8, 8, 1], and how an image becomes it."""
    artifact = example_artifact()
    artifact.image_preprocessing.CopyFrom(
        artifact_pb2.ImagePreprocessing(
            height=8,
            width=8,
            color_mode=artifact_pb2.COLOR_MODE_GREY,
            resampling=artifact_pb2.RESAMPLING_BOX,
            fit=artifact_pb2.FIT_PAD,
            scale=1 / 255,
            mean=[0.5],
            std=[0.25],
            light_on_dark=True,
        )
    )
    return artifact


def in_color(artifact: artifact_pb2.Artifact) -> None:
    artifact.inputs[0].shape[3] = 3
    artifact.image_preprocessing.color_mode = artifact_pb2.COLOR_MODE_RGB
    artifact.image_preprocessing.light_on_dark = False
    artifact.image_preprocessing.ClearField("mean")
    artifact.image_preprocessing.std[:] = [0.1, 0.2, 0.3]


def of_any_size(artifact: artifact_pb2.Artifact) -> None:
    artifact.inputs[0].shape[1:3] = [-1, -1]
    artifact.image_preprocessing.height = 100


@pytest.mark.parametrize("edit", [lambda a: None, in_color, of_any_size])
def test_what_fits_the_input_is_accepted(edit: Callable[[artifact_pb2.Artifact], None]) -> None:
    artifact = artifact_of_images()
    edit(artifact)
    check(artifact)


def a_mean_too_many(artifact: artifact_pb2.Artifact) -> None:
    artifact.image_preprocessing.mean.append(0.5)


def two_inputs(artifact: artifact_pb2.Artifact) -> None:
    artifact.inputs.add(name="mask", datatype="FP32", shape=[-1])


def light_on_dark_in_color(artifact: artifact_pb2.Artifact) -> None:
    in_color(artifact)
    artifact.image_preprocessing.light_on_dark = True


def with_field(field: str, value: object) -> Callable[[artifact_pb2.Artifact], None]:
    return lambda artifact: setattr(artifact.image_preprocessing, field, value)


def with_input(field: str, value: object) -> Callable[[artifact_pb2.Artifact], None]:
    return lambda artifact: setattr(artifact.inputs[0], field, value)


def with_shape(*shape: int) -> Callable[[artifact_pb2.Artifact], None]:
    def edit(artifact: artifact_pb2.Artifact) -> None:
        artifact.inputs[0].shape[:] = shape

    return edit


def with_std(value: float) -> Callable[[artifact_pb2.Artifact], None]:
    return lambda artifact: artifact.image_preprocessing.std.__setitem__(0, value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (two_inputs, "there are 2 inputs; expected one, the image"),
        (with_field("color_mode", 0), "color_mode is 0; expected one of COLOR_MODE_GREY, COLOR_"),
        (with_field("color_mode", 9), "color_mode is 9; expected one of"),
        (with_field("resampling", 0), "resampling is 0; expected one of RESAMPLING_NEAREST, "),
        (with_field("fit", 0), "fit is 0; expected one of FIT_STRETCH, "),
        (with_field("height", 9), r"are \[9, 8, 1\]; expected those of the input 'image', of sh"),
        (with_field("width", 0), r"are \[8, 0, 1\]; expected .* and at least 1"),
        (with_shape(-1, 8, 8, 3), r"are \[8, 8, 1\]; expected .* of shape \[-1, 8, 8, 3\]"),
        (with_shape(-1, 64), r"expected .* of shape \[-1, 64\]"),
        (with_input("datatype", "UINT8"), "'image' is UINT8; expected one of FP16, BF16, FP32"),
        (with_field("scale", 0.0), "scale is 0.0; expected a finite number above 0"),
        (with_field("scale", float("inf")), "scale is inf; expected"),
        (with_field("scale", float("nan")), "scale is nan; expected"),
        (a_mean_too_many, r"mean is \[0.5, 0.5\]; expected none or 1 finite numbers"),
        (with_std(0), r"std is \[0.0\]; expected none or 1 finite numbers above 0"),
        (with_std(float("nan")), r"std is \[nan\]; expected"),
        (light_on_dark_in_color, "light_on_dark is true; expected false, unless color_mode is CO"),
    ],
)
def test_broken_rule_is_named(edit: Callable[[artifact_pb2.Artifact], None], message: str) -> None:
    artifact = artifact_of_images()
    edit(artifact)
    with pytest.raises(ArtifactError, match=f"^image_preprocessing: .*{message}"):
        check(artifact)
