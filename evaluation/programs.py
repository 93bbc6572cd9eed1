"""What can compute an artifact: a new one is a line of the table.

A program's libraries are imported when they are asked for, so that a process measures one alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from hpc.artifact.v1 import artifact_pb2

from models.network import Framework, Predict
from registry.artifact import load


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
    """Our own network of an artifact, as a server loads it."""

    def load_network(directory: Path) -> Predict:
        from serving.predictor import predictor

        return predictor(load(directory), framework)

    return load_network


def _load_portable(name: str) -> Callable[[Path], Predict]:
    """The program that an artifact brings along."""

    def load_portable(directory: Path) -> Predict:
        from registry.programs.program import load_program

        loaded = load(directory)
        run = load_program(loaded, name)
        # Of several only `evaluation.examples` says that they cannot be measured.
        source, result = loaded.artifact.inputs[0].name, loaded.artifact.outputs[0].name
        return lambda inputs: run({source: inputs})[result]

    return load_portable


def _prepare_jax(module: str) -> Callable[[], str]:
    def prepare() -> str:
        import jax

        import_module(module)
        return str(jax.devices()[0].device_kind)

    return prepare


def _prepare_torch(module: str) -> Callable[[], str]:
    def prepare() -> str:
        import torch

        import_module(module)
        return str(torch.get_default_device())

    return prepare


PROGRAMS: dict[str, Program] = {
    "flax": Program(
        ("flax", "jax", "jaxlib", "numpy"),
        _load_network("flax"),
        _prepare_jax("models.flax.predict"),
    ),
    "torch": Program(
        ("numpy", "torch"), _load_network("torch"), _prepare_torch("models.torch.predict")
    ),
    "stablehlo": Program(
        ("jax", "jaxlib", "numpy"),
        _load_portable("stablehlo"),
        _prepare_jax("registry.programs.stablehlo_program"),
    ),
    "torch_export": Program(
        ("numpy", "torch"),
        _load_portable("torch_export"),
        _prepare_torch("registry.programs.torch_program"),
    ),
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
