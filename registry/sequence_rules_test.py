"""What a descriptor says of sequences fits its tensors, and the message names the field."""

from collections.abc import Callable

import pytest
from hpc.artifact.v1 import artifact_pb2

from registry.descriptor import check
from registry.errors import ArtifactError
from registry.example import example_artifact

Edit = Callable[[artifact_pb2.Artifact], None]


def artifact_of_sequences() -> artifact_pb2.Artifact:
    """An artifact of sequences of up to 16 tokens, of each of which something is said."""
    artifact = example_artifact()
    del artifact.inputs[:], artifact.outputs[:]
    artifact.inputs.add(name="tokens", datatype="INT32", shape=[-1, 16], padding=-1)
    artifact.inputs.add(name="weight", datatype="FP32", shape=[-1, 16, 2])
    artifact.outputs.add(name="next", datatype="FP32", shape=[-1, 16, 7], follows="tokens")
    artifact.outputs.add(name="label", datatype="INT64", shape=[-1])
    return artifact


def pad(index: int, datatype: str, padding: float) -> Edit:
    def edit(artifact: artifact_pb2.Artifact) -> None:
        artifact.inputs[index].datatype = datatype
        artifact.inputs[index].padding = padding

    return edit


def shape(kind: str, index: int, *sizes: int) -> Edit:
    def edit(artifact: artifact_pb2.Artifact) -> None:
        getattr(artifact, kind)[index].shape[:] = sizes

    return edit


def follow(kind: str, index: int, name: str) -> Edit:
    def edit(artifact: artifact_pb2.Artifact) -> None:
        getattr(artifact, kind)[index].follows = name

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        lambda artifact: None,
        pad(0, "INT8", -128),
        pad(0, "UINT8", 255),
        pad(0, "BOOL", 1),
        pad(0, "FP16", 65504),
        pad(0, "BF16", -0.5),
        pad(1, "FP64", 0),
        shape("outputs", 0, -1, 16),
    ],
)
def test_what_fits_the_tensors_is_accepted(edit: Edit) -> None:
    artifact = artifact_of_sequences()
    edit(artifact)
    check(artifact)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (pad(0, "INT8", -129), r"padding is -129; expected a whole number from -128 to 127"),
        (pad(0, "UINT8", -1), r"padding is -1; expected a whole number from 0 to 255, as UINT8"),
        (pad(0, "INT32", 0.5), "padding is 0.5; expected a whole number"),
        (pad(0, "BOOL", 2), "padding is 2; expected a whole number from 0 to 1, as BOOL"),
        (pad(0, "FP16", 65505), "padding is 65505; expected a finite number"),
        (pad(0, "FP32", float("nan")), "padding is nan; expected a finite number"),
        (pad(0, "FP64", float("inf")), "padding is inf; expected a finite number"),
        (pad(0, "BYTES", 0), r"inputs\['tokens'\].padding is of BYTES"),
        (shape("inputs", 0, -1), r"inputs\['tokens'\].shape is \[-1\]; expected a size of dimens"),
        (shape("inputs", 0, -1, -1), r"shape is \[-1, -1\]; expected a size of dimension 1"),
        (shape("outputs", 0, -1, 15, 7), r"outputs\['next'\].shape is .* expected 16 of dimension"),
        (shape("outputs", 0, -1), r"outputs\['next'\].shape is \[-1\]; expected 16 of dimension 1"),
        (
            follow("inputs", 1, "tokens"),
            r"inputs\['weight'\].follows is 'tokens'; expected it of o",
        ),
        (follow("outputs", 0, "weight"), r"follows is 'weight'; .* of which there are: tokens"),
        (follow("outputs", 0, "label"), r"outputs\['next'\].follows is .label.; expected an inp"),
    ],
)
def test_what_does_not_fit_is_refused(edit: Edit, problem: str) -> None:
    artifact = artifact_of_sequences()
    edit(artifact)
    with pytest.raises(ArtifactError, match=problem):
        check(artifact)


def test_padding_of_an_output_is_refused() -> None:
    artifact = artifact_of_sequences()
    artifact.outputs[1].padding = 0
    with pytest.raises(ArtifactError, match=r"outputs\['label'\].padding is 0; expected it of inp"):
        check(artifact)
