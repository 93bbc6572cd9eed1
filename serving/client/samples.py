"""Inputs that fit a model's signature, for load."""

import numpy as np
from inference import grpc_service_pb2 as oip

from serving.core.signature import DTYPES
from serving.protocols.elements import BYTES

_STRING_BYTES = 8


def random_inputs(
    metadata: oip.ModelMetadataResponse, batch_size: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Random values for each input of a model.

    Floats are in [0, 1), integers 0 or 1, as metadata do not tell the range of tokens, and byte
    strings have 8 letters. A dimension of any size is 1, but the first, which is the batch.

    Args:
        metadata: of the model.
        batch_size: examples.
        rng: where the values come from.

    Raises:
        ValueError: there are no inputs, one has a datatype that is not known, or no batch.
    """
    if not metadata.inputs:
        raise ValueError(f"model {metadata.name!r} tells no inputs; give a file")
    return {
        spec.name: _values(
            spec.name, spec.datatype, _sized(spec.name, list(spec.shape), batch_size), rng
        )
        for spec in metadata.inputs
    }


def _sized(name: str, shape: list[int], batch_size: int) -> list[int]:
    if shape[:1] == [-1]:
        shape = [batch_size, *shape[1:]]
    elif batch_size != 1:
        raise ValueError(f"input {name!r} has shape {shape}, and so no batch of {batch_size}")
    return [1 if size < 0 else size for size in shape]


def _values(name: str, datatype: str, shape: list[int], rng: np.random.Generator) -> np.ndarray:
    if datatype == BYTES:
        letters = rng.integers(ord("a"), ord("z") + 1, (*shape, _STRING_BYTES), np.uint8)
        return letters.view(f"S{_STRING_BYTES}").reshape(shape)
    if datatype not in DTYPES:
        raise ValueError(f"input {name!r} has datatype {datatype!r}; give a file")
    if DTYPES[datatype].kind in "biu":
        return rng.integers(0, 2, shape).astype(DTYPES[datatype])
    return rng.random(shape, np.float32).astype(DTYPES[datatype])
