"""The rules of what a descriptor says of sequences, beside those of `registry.descriptor`.

Reference: TensorSpec of proto/hpc/artifact/v1/artifact.proto states each rule.
"""

import math

import ml_dtypes
import numpy as np
from hpc.artifact.v1 import artifact_pb2

from registry.errors import ArtifactError


def check_sequences(artifact: artifact_pb2.Artifact) -> None:
    """Raises ArtifactError, naming the field, if `padding` or `follows` of a tensor breaks a rule.

    Args:
        artifact: Whose tensors obey all other rules.
    """
    for spec in artifact.inputs:
        where = f"inputs[{spec.name!r}]"
        _require(
            not spec.follows, f"{where}.follows is {spec.follows!r}; expected it of outputs only"
        )
        if spec.HasField("padding"):
            _check_padding(where, spec)
    sizes = {spec.name: spec.shape[1] for spec in artifact.inputs if spec.HasField("padding")}
    for spec in artifact.outputs:
        where = f"outputs[{spec.name!r}]"
        _require(
            not spec.HasField("padding"),
            f"{where}.padding is {spec.padding:g}; expected it of inputs only",
        )
        if not spec.follows:
            continue
        _require(
            spec.follows in sizes,
            f"{where}.follows is {spec.follows!r}; expected an input with padding, of which there "
            f"are: {', '.join(sizes) or 'none'}",
        )
        _require(
            len(spec.shape) > 1 and spec.shape[1] == sizes[spec.follows],
            f"{where}.shape is {list(spec.shape)}; expected {sizes[spec.follows]} of dimension 1, "
            f"as {spec.follows!r} has, which it follows",
        )


def _check_padding(where: str, spec: artifact_pb2.TensorSpec) -> None:
    _require(
        len(spec.shape) > 1 and spec.shape[1] > 0,
        f"{where}.shape is {list(spec.shape)}; expected a size of dimension 1, up to which "
        "sequences are filled up with padding",
    )
    _require(
        spec.datatype != "BYTES", f"{where}.padding is of BYTES; expected it of numbers and BOOL"
    )
    smallest, largest, whole = _values(spec.datatype)
    value = spec.padding
    _require(
        math.isfinite(value) and smallest <= value <= largest and (value.is_integer() or not whole),
        f"{where}.padding is {value:g}; expected {'a whole' if whole else 'a finite'} number from "
        f"{smallest:g} to {largest:g}, as {spec.datatype} has",
    )


def _values(datatype: str) -> tuple[float, float, bool]:
    """The smallest and the largest value of a datatype, and whether all are whole numbers."""
    if datatype == "BOOL":
        return 0, 1, True
    if "INT" in datatype:
        limits = np.iinfo(datatype.lower())
        return limits.min, limits.max, True
    dtype = ml_dtypes.bfloat16 if datatype == "BF16" else f"float{datatype.removeprefix('FP')}"
    of_floats = ml_dtypes.finfo(dtype)
    return float(of_floats.min), float(of_floats.max), False


def _require(condition: object, message: str) -> None:
    if not condition:
        raise ArtifactError(message)
