"""The probe of an artifact: a few examples and what the model predicts for them.

Programs are held to it when they are published, and may be again where they are loaded.
"""

import io
from collections.abc import Mapping

import numpy as np

from registry.artifact import LoadedArtifact, read_payload
from registry.programs.errors import ProgramError
from registry.programs.program import Run, load_program
from registry.weights import FormatError, views_of, write_tensors

# Of the largest output, or of 1 if that is less. Programs and kernels add up in other orders.
TOLERANCE = 1e-5

Arrays = Mapping[str, np.ndarray]


def write_probe(inputs: Arrays, outputs: Arrays) -> bytes:
    """Returns the file of a probe, in safetensors' format.

    Args:
        inputs: A few examples, by the signature's names.
        outputs: What the model gives for them, likewise.
    """
    tensors = {f"input.{name}": tensor for name, tensor in inputs.items()}
    tensors |= {f"output.{name}": tensor for name, tensor in outputs.items()}
    file = io.BytesIO()
    write_tensors(file.write, tensors)
    return file.getvalue()


def check_probe(loaded: LoadedArtifact, name: str, tolerance: float = TOLERANCE) -> float:
    """Runs a program of an artifact on its probe.

    Args:
        loaded: The artifact, verified.
        name: The program, a key of `registry.programs.formats.FORMATS`.
        tolerance: By how much outputs may differ, as a part of the largest one, or of 1 if that is
            less.

    Returns:
        By how much they differ, in the same measure.

    Raises:
        ProgramError: By more, or the program cannot be run, or there is no probe.
        ArtifactError: The probe's file is not as the descriptor has it.
    """
    inputs, outputs = read_probe(loaded)
    return difference(load_program(loaded, name), name, inputs, outputs, tolerance)


def read_probe(
    loaded: LoadedArtifact,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns the inputs and outputs of an artifact's probe, by the signature's names.

    Raises:
        ProgramError: It has none, or what it has is not as the signature has it.
        ArtifactError: The file is not as the descriptor has it.
    """
    artifact = loaded.artifact
    if not artifact.probe_path:
        raise ProgramError(f"{artifact.name} {artifact.version} has no probe")
    content = np.frombuffer(read_payload(loaded, artifact.probe_path), np.uint8)
    try:
        tensors = views_of(content)
    except FormatError as error:
        raise ProgramError(f"{artifact.probe_path} is not safetensors: {error}") from error
    parts = {}
    for kind, specs in (("input", artifact.inputs), ("output", artifact.outputs)):
        names = [spec.name for spec in specs]
        if missing := [name for name in names if f"{kind}.{name}" not in tensors]:
            raise ProgramError(f"{artifact.probe_path} lacks {kind}.{missing[0]}")
        parts[kind] = {name: tensors[f"{kind}.{name}"] for name in names}
    return parts["input"], parts["output"]


def difference(
    run: Run, name: str, inputs: Arrays, outputs: Arrays, tolerance: float = TOLERANCE
) -> float:
    """Holds a program to what is expected of it; see `check_probe`.

    Raises:
        ProgramError: It gives something else.
    """
    results, largest = run(inputs), 0.0
    for output, expected in outputs.items():
        result = results[output]
        if result.shape != expected.shape:
            raise ProgramError(
                f"the {name} program gives {output} of shape {list(result.shape)}, the probe has "
                f"{list(expected.shape)}"
            )
        scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
        apart = np.abs(result.astype(np.float64) - expected) / scale
        # Of what is no number nothing differs by less than anything.
        largest = max(largest, float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0)))
    if not largest <= tolerance:
        raise ProgramError(
            f"the {name} program predicts otherwise than the model did: outputs differ by "
            f"{largest:.1e} of the largest, at most {tolerance:.0e} is allowed"
        )
    return largest
