"""Runs the network of an artifact as a program that it brings along, without knowing the network.

    run = load_program(load(directory), "stablehlo")
    outputs = run({"image": images})

Of the two libraries only the one that a program is for is imported, and when it is asked for. A
program is checked before its library sees it: of StableHLO no call of foreign code is let through,
and of torch.export nothing that is unpickled, imported or evaluated as Python.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from hpc.artifact.v1 import artifact_pb2

from registry.artifact import LoadedArtifact, read_payload
from registry.programs.errors import ProgramError
from registry.programs.formats import FORMATS, MAX_PROGRAM_BYTES, Format
from registry.programs.signature import check_inputs, check_outputs

Arrays = Mapping[str, np.ndarray]

# A batch of inputs by name to a batch of outputs by name; as the artifact's signature has them.
Run = Callable[[Arrays], dict[str, np.ndarray]]


class Loader(Protocol):
    """What runs the programs of one format."""

    def __call__(self, content: bytes, weights: Arrays) -> Run:
        """Returns a program of these weights.

        Raises:
            ProgramError: It is damaged, holds what no program may, or is for other weights.
            ImportError: A library is not installed.
        """
        ...


def load_program(loaded: LoadedArtifact, name: str) -> Run:
    """Returns one of an artifact's programs as a function of a batch, with the artifact's weights.

    Args:
        loaded: The artifact, verified.
        name: A key of `FORMATS`: "stablehlo" or "torch_export".

    Returns:
        A thread-safe function that checks what it is given against the signature, compiles for
        each size of batch once where its library compiles, and raises ProgramError.

    Raises:
        ProgramError: The artifact has no such program, its library is not installed, or it is
            damaged or not such a program as this project makes.
        ArtifactError: The file is not as the descriptor has it.
    """
    program = _program_of(loaded.artifact, name)
    return bind(read_payload(loaded, program.path), name, loaded.tensors, loaded.artifact)


def bind(content: bytes, name: str, weights: Arrays, artifact: artifact_pb2.Artifact) -> Run:
    """As `load_program`, of a program that is no artifact's yet.

    Args:
        content: The program.
        name: A key of `FORMATS`.
        weights: By canonical name.
        artifact: Of which `inputs` and `outputs` are used.
    """
    if len(content) > MAX_PROGRAM_BYTES:
        raise ProgramError(
            f"the {name} program takes {len(content)} bytes; at most {MAX_PROGRAM_BYTES} are loaded"
        )
    run = _load(content, FORMATS[name], weights)
    inputs, outputs = list(artifact.inputs), list(artifact.outputs)

    def checked(batch: Arrays) -> dict[str, np.ndarray]:
        check_inputs(batch, inputs)
        try:
            results = run(batch)
        except ProgramError:
            raise
        except Exception as error:  # whatever its library raises
            raise ProgramError(f"the {name} program failed: {_first_line(error)}") from error
        check_outputs(results, outputs, name)
        return results

    return checked


def program_names(artifact: artifact_pb2.Artifact) -> list[str]:
    """Returns the names of the programs that an artifact has, in alphabetical order."""
    formats = {program.format for program in artifact.programs}
    return sorted(name for name, kind in FORMATS.items() if kind.number in formats)


def _program_of(artifact: artifact_pb2.Artifact, name: str) -> artifact_pb2.Program:
    if name not in FORMATS:
        raise ProgramError(f"expected one of {', '.join(FORMATS)}, got {name!r}")
    for program in artifact.programs:
        if program.format == FORMATS[name].number:
            return program
    had = ", ".join(program_names(artifact)) or "none"
    raise ProgramError(
        f"{artifact.name} {artifact.version} has no {name} program; it has: {had}; the "
        "trainers make those that artifact.programs names"
    )


def _load(content: bytes, kind: Format, weights: Arrays) -> Run:
    try:
        loader: Loader = kind.loader()
        return loader(content, weights)
    except ProgramError:
        raise
    except ImportError as error:
        raise ProgramError(
            f"a {kind.name} program needs {kind.needs}: {error}; install it, or take another "
            "program"
        ) from error
    except Exception as error:  # whatever its library raises
        raise ProgramError(
            f"the {kind.name} program cannot be loaded: {_first_line(error)}; it is damaged, or "
            f"made by another version of {kind.library}"
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
