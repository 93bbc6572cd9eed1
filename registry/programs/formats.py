"""The formats of programs: what each is called, where an artifact keeps it, and what loads it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from hpc.artifact.v1 import artifact_pb2

# A program holds no weights; one of a hundred layers takes about 10 MB.
MAX_PROGRAM_BYTES = 256 * 2**20

# Where an artifact keeps the batch that its programs are checked by.
PROBE_PATH = "probe.safetensors"


class Format(NamedTuple):
    """One format.

    Attributes:
        name: In configurations and on command lines.
        number: In descriptors.
        path: Of the file, in the artifact's directory.
        library: The distribution that writes and loads it.
        needs: What has to be installed to load it.
        loader: Imports what loads it; see `registry.programs.program.Loader`.
    """

    name: str
    number: "artifact_pb2.ProgramFormat"
    path: str
    library: str
    needs: str
    loader: Callable[[], Any]


def _stablehlo() -> Any:
    from registry.programs import stablehlo_program

    return stablehlo_program.load


def _torch_export() -> Any:
    from registry.programs import torch_program

    return torch_program.load


FORMATS: dict[str, Format] = {
    kind.name: kind
    for kind in (
        Format(
            name="stablehlo",
            number=artifact_pb2.PROGRAM_FORMAT_STABLEHLO,
            path="programs/model.stablehlo",
            library="jax",
            needs="jax and flatbuffers",
            loader=_stablehlo,
        ),
        Format(
            name="torch_export",
            number=artifact_pb2.PROGRAM_FORMAT_TORCH_EXPORT,
            path="programs/model.pt2",
            library="torch",
            needs="torch",
            loader=_torch_export,
        ),
    )
}
