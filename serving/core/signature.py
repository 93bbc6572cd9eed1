"""A model's signature in numpy's terms, apart from any protocol that carries tensors."""

from typing import NamedTuple

import ml_dtypes
import numpy as np

# Datatypes that have a fixed size. The Open Inference Protocol names them, and is little-endian on
# every machine.
DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}


class TensorSpec(NamedTuple):
    """What a tensor of the signature must look like.

    Attributes:
        name: what clients call it.
        datatype: a key of DTYPES.
        shape: -1 is a dimension of any size.
        limit: integers are below it, such as tokens below the number of tokens that there are.
        padding: of an input of sequences: one may be shorter than dimension 1 says, and is then
            filled up with this value; None: every dimension is as `shape` says.
        follows: of an output that says something of each element of such a sequence, the name of
            that input: its dimension 1 is cut back to the sequence's own length.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    limit: int | None = None
    padding: float | None = None
    follows: str = ""

    def __str__(self) -> str:
        below = "" if self.limit is None else f" below {self.limit}"
        return f"{self.name} {self.datatype} {list(self.shape)}{below}"


def zeros(spec: TensorSpec, batch_size: int = 1) -> np.ndarray:
    """A batch that fits `spec`, with 1 for any other dimension of any size."""
    sizes = [1 if size == -1 else size for size in spec.shape[1:]]
    return np.zeros([batch_size, *sizes], DTYPES[spec.datatype])
