"""What an artifact's signature promises must be computable without a request that compiles."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hpc.artifact.v1 import artifact_pb2

from models.network import Framework
from registry.artifact import ArtifactError, VerifiedDescriptor
from registry.programs.formats import FORMATS
from serving.core.model import served_model

BOTH = ("stablehlo", "torch_export")


def descriptor(shape: Sequence[int], programs: Sequence[str]) -> VerifiedDescriptor:
    """Of a model that only its programs compute."""
    artifact = artifact_pb2.Artifact(name="m", version="1.0.0", framework="FRAMEWORK_FLAX")
    artifact.model.architecture, artifact.model.config_json = "of_others", "{}"
    artifact.inputs.add(name="x", datatype="FP32", shape=shape)
    artifact.outputs.add(name="y", datatype="FP32", shape=[-1, 3])
    for name in programs:
        kind = FORMATS[name]
        artifact.programs.add(format=kind.number, path=kind.path, library_version="1")
    return VerifiedDescriptor(artifact, Path("absent"), "0" * 64)


@pytest.mark.parametrize(
    ("shape", "programs", "framework", "platform"),
    [
        ([-1, 4], BOTH, None, "jax_stablehlo"),
        ([-1, -1], BOTH, "torch", "torch_export"),
        ([-1, 4, -1], BOTH[1:], None, "torch_export"),
    ],
)
def test_sizes_may_be_open_where_nothing_is_compiled(
    shape: Sequence[int], programs: Sequence[str], framework: Framework | None, platform: str
) -> None:
    model = served_model(descriptor(shape, programs), framework=framework)
    assert (model.platform, model.inputs[0].shape) == (platform, tuple(shape))


@pytest.mark.parametrize("framework", [None, "flax"])
@pytest.mark.parametrize("shape", [[-1, -1], [-1, 4, -1]])
def test_open_sizes_of_a_compiled_program_are_refused(
    shape: Sequence[int], framework: Framework | None
) -> None:
    with pytest.raises(ArtifactError, match=r"input 'x' is of any size, \[-1, .*padding.*torch_e"):
        served_model(descriptor(shape, BOTH), framework=framework)
