"""What can compute an artifact: a new one is a line of the table.

A program's libraries are imported when they are asked for, so that a process measures one alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpc.artifact.v1 import artifact_pb2

from models.network import Framework, Predict


@dataclass(frozen=True)
class Program:
    """One way to compute.

    Attributes:
        libraries: Distributions whose versions decide how fast it is.
        load: Reads an artifact, verifies it and returns what predicts.
        prepare: Imports what `load` needs, and returns what computes, for a human.
    """

    libraries: tuple[str, ...]
    load: Callable[[Path], Predict]
    prepare: Callable[[], str]


def _load_network(framework: Framework) -> Callable[[Path], Predict]:
    def load(directory: Path) -> Predict:
        from registry.artifact import load as load_artifact
        from serving.predictor import predictor

        return predictor(load_artifact(directory), framework)

    return load


def _prepare_jax() -> str:
    import jax

    return str(jax.devices()[0].device_kind)


def _prepare_torch() -> str:

    return "cpu"


PROGRAMS: dict[str, Program] = {
    "flax": Program(("flax", "jax", "jaxlib", "numpy"), _load_network("flax"), _prepare_jax),
    "torch": Program(("numpy", "torch"), _load_network("torch"), _prepare_torch),
}

_TRAINED_IN = {
    artifact_pb2.FRAMEWORK_FLAX: "flax",
    artifact_pb2.FRAMEWORK_TORCH: "torch",
}


def program_of(artifact: artifact_pb2.Artifact, name: str | None) -> str:
    """Returns which program computes an artifact: the one asked for, or what trained it.

    Raises:
        ValueError: There is no such program; the message names those that there are.
    """
    if name is None:
        return _TRAINED_IN[artifact.framework]
    if name not in PROGRAMS:
        raise ValueError(f"program {name!r}: expected one of {', '.join(PROGRAMS)}")
    return name
