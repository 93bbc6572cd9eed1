"""Open Inference Protocol replies to numpy, from any server of the protocol, not only from ours.

Reference: https://github.com/kserve/open-inference-protocol, "Tensor Data".
"""

import math

import numpy as np
from inference import grpc_service_pb2 as oip

from serving.core.signature import DTYPES
from serving.protocols.elements import BYTES, TensorContentError, from_contents, from_raw


def decode_outputs(response: oip.ModelInferResponse) -> dict[str, np.ndarray]:
    """The output tensors of a reply by name, in either form that the protocol allows.

    Args:
        response: as received. Either all its tensors are raw or all are typed.

    Returns:
        Read-only arrays. BYTES are object arrays of Python's bytes.

    Raises:
        TensorContentError: the reply breaks the protocol; the message names the output.
    """
    outputs, raw = response.outputs, response.raw_output_contents
    if raw and len(raw) != len(outputs):
        raise TensorContentError(
            f"raw_output_contents holds {len(raw)} entries for {len(outputs)} outputs"
        )
    arrays: dict[str, np.ndarray] = {}
    for index, tensor in enumerate(outputs):
        if tensor.name in arrays:
            raise TensorContentError(f"output {tensor.name!r} occurs twice")
        arrays[tensor.name] = _decode(tensor, raw[index] if raw else None)
    return arrays


def _decode(tensor: oip.ModelInferResponse.InferOutputTensor, content: bytes | None) -> np.ndarray:
    """One output; `content` is None if it is typed."""
    where, datatype = f"output {tensor.name!r}", tensor.datatype
    if datatype not in DTYPES and datatype != BYTES:
        known = ", ".join([*DTYPES, BYTES])
        raise TensorContentError(f"{where} has datatype {datatype!r}; expected one of {known}")
    shape = tuple(tensor.shape)
    if any(size < 0 for size in shape):
        raise TensorContentError(f"{where} has shape {list(shape)}")
    if content is None:
        array = from_contents(where, datatype, tensor.contents, math.prod(shape))
    elif tensor.contents.ListFields():  # MLServer sends an empty one, which says nothing
        raise TensorContentError(f"{where} has contents beside raw_output_contents")
    else:
        array = from_raw(where, datatype, content, math.prod(shape))
    array.flags.writeable = False
    try:
        return array.reshape(shape)
    except ValueError as error:  # more dimensions, or larger ones, than numpy has
        raise TensorContentError(f"{where} has shape {list(shape)}: {error}") from error
