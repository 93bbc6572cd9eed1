"""Holds batches to the signature of an artifact, so that a wrong one is one clear line."""

from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np
from hpc.artifact.v1 import artifact_pb2

from registry.programs.errors import ProgramError

# Datatypes of the Open Inference Protocol to NumPy's; BYTES has none.
DTYPES = {
    "BOOL": np.dtype("bool"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
}

Specs = Sequence[artifact_pb2.TensorSpec]


def check_inputs(batch: Mapping[str, np.ndarray], specs: Specs) -> None:
    """Raises ProgramError unless a batch is as the signature has it, of one size, not empty."""
    problems = _problems(batch, specs)
    if not problems and len({len(tensor) for tensor in batch.values()}) != 1:
        sizes = ", ".join(f"{len(tensor)} of {name}" for name, tensor in batch.items())
        problems.append(f"expected as many examples of each input, got {sizes}")
    if not problems and not len(next(iter(batch.values()))):
        problems.append("expected at least one example, got an empty batch")
    if problems:
        raise ProgramError("inputs do not fit the signature: " + "; ".join(problems))


def check_outputs(outputs: Mapping[str, np.ndarray], specs: Specs, name: str) -> None:
    """Raises ProgramError unless outputs are as the signature has them."""
    if problems := _problems(outputs, specs):
        raise ProgramError(
            f"the {name} program gave what the signature does not have: {'; '.join(problems)}"
        )


def _problems(tensors: Mapping[str, np.ndarray], specs: Specs) -> list[str]:
    expected = {spec.name: spec for spec in specs}
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [
        f"{name!r} is not one of {', '.join(expected)}" for name in tensors if name not in expected
    ]
    for name, tensor in tensors.items():
        if name in expected:
            problems += _misfits(tensor, expected[name])
    return problems


def _misfits(tensor: np.ndarray, spec: artifact_pb2.TensorSpec) -> list[str]:
    if spec.datatype not in DTYPES:
        return [f"{spec.name} is {spec.datatype}, which NumPy does not have"]
    dtype = DTYPES[spec.datatype]
    if not isinstance(tensor, np.ndarray) or tensor.dtype != dtype:
        got = getattr(tensor, "dtype", type(tensor).__name__)
        return [f"{spec.name}: expected an array of {dtype}, got {got}"]
    fits = tensor.ndim == len(spec.shape) and all(
        size in (-1, given) for size, given in zip(spec.shape, tensor.shape, strict=True)
    )
    if not fits:
        return [f"{spec.name}: expected shape {list(spec.shape)}, got {list(tensor.shape)}"]
    return []
