"""Open Inference Protocol tensors to and from numpy, checked against a model's signature.

Everything in a request comes from the network. Nothing is computed from it, and no memory is
allocated for it, before it was compared with what the model expects.

Reference: https://github.com/kserve/open-inference-protocol, "Tensor Data".
"""

import math
from collections.abc import Sequence

import numpy as np
from inference import grpc_service_pb2 as oip

from serving.elements import CONTENTS_FIELDS, from_contents, from_raw
from serving.errors import InvalidRequestError, TensorContentError
from serving.signature import DTYPES, TensorSpec

MAX_QUOTED = 64


def decode_inputs(
    request: oip.ModelInferRequest, expected: Sequence[TensorSpec], max_batch_size: int
) -> dict[str, np.ndarray]:
    """The input tensors of a request, by name.

    Raw tensors are views of the request's own bytes: nothing is copied, nothing can be written.

    Args:
        request: as received.
        expected: the inputs of the model. The first dimension is the batch, common to all.
        max_batch_size: largest batch accepted.

    Raises:
        InvalidRequestError: anything differs from `expected`, or a value is NaN or infinite.
    """
    try:
        return _decode_inputs(request, expected, max_batch_size)
    except (InvalidRequestError, TensorContentError) as error:
        signature = ", ".join(map(str, expected))
        raise InvalidRequestError(
            f"{error}. Expected inputs: {signature}; batch of 1 to {max_batch_size}"
        ) from None


def select_outputs(
    request: oip.ModelInferRequest, offered: Sequence[TensorSpec]
) -> list[TensorSpec]:
    """The outputs that a request asks for, in its order; all of them if it names none.

    Raises:
        InvalidRequestError: an output is unknown, asked for twice, or cannot be sent in the form
            that the request implies.
    """
    by_name = {spec.name: spec for spec in offered}
    names = [output.name for output in request.outputs] or list(by_name)
    signature = ", ".join(map(str, offered))
    for name in names:
        if name not in by_name:
            raise InvalidRequestError(
                f"unknown output {quote(name)}. Expected outputs: {signature}"
            )
    if len(set(names)) != len(names):
        raise InvalidRequestError(f"an output is requested twice. Expected outputs: {signature}")
    for output in request.outputs:
        _refuse_parameters("output", output)
    selected = [by_name[name] for name in names]
    for spec in selected:
        if not request.raw_input_contents and spec.datatype not in CONTENTS_FIELDS:
            raise InvalidRequestError(
                f"output {spec.name!r} is {spec.datatype}, which exists in raw form only: "
                "send raw_input_contents to get raw_output_contents"
            )
    return selected


def encode_outputs(
    response: oip.ModelInferResponse,
    outputs: Sequence[tuple[TensorSpec, np.ndarray]],
    *,
    raw: bool,
) -> None:
    """Adds tensors to a response, raw or typed as the request was.

    Raises:
        ValueError: a tensor contradicts its own signature, which is a fault of the model.
    """
    for spec, array in outputs:
        if array.dtype != DTYPES[spec.datatype] or not _fits(array.shape, spec.shape):
            raise ValueError(
                f"the model returned {array.dtype} {list(array.shape)}; its signature says {spec}"
            )
        tensor = response.outputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
        if raw:
            response.raw_output_contents.append(array.tobytes())
        else:
            field = CONTENTS_FIELDS[spec.datatype]
            getattr(tensor.contents, field).extend(array.ravel().tolist())


def quote(text: str) -> str:
    """Text from a request as it may appear in an error: gRPC sends errors in a small header."""
    return repr(text) if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]!r}..."


def _decode_inputs(
    request: oip.ModelInferRequest, expected: Sequence[TensorSpec], max_batch_size: int
) -> dict[str, np.ndarray]:
    inputs = _match_names(request.inputs, expected)
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequestError(
            f"raw_input_contents holds {len(raw)} entries for {len(request.inputs)} inputs"
        )
    contents = dict(zip((tensor.name for tensor in request.inputs), raw, strict=False))
    arrays = {}
    for spec in expected:
        tensor, where = inputs[spec.name], f"input {spec.name!r}"
        shape = _check_header(tensor, spec, max_batch_size)
        if not raw:
            array = from_contents(where, spec.datatype, tensor.contents, math.prod(shape))
        elif tensor.HasField("contents"):
            raise InvalidRequestError(f"{where} has contents beside raw_input_contents")
        else:
            array = from_raw(where, spec.datatype, contents[spec.name], math.prod(shape))
        if not _is_finite(array):
            raise InvalidRequestError(f"{where} has NaN or infinite values")
        if spec.limit is not None and (largest := array.max()) >= spec.limit:
            raise InvalidRequestError(f"{where} has the value {largest}")
        arrays[spec.name] = array.reshape(shape)
    if len({array.shape[0] for array in arrays.values()}) > 1:
        raise InvalidRequestError("inputs differ in their batch dimension")
    return arrays


def _is_finite(array: np.ndarray) -> bool:
    with np.errstate(invalid="ignore"):  # bfloat16 would warn of the NaN that we look for
        return array.dtype.kind in "?iu" or bool(np.isfinite(array).all())


def _match_names(
    inputs: Sequence[oip.ModelInferRequest.InferInputTensor], expected: Sequence[TensorSpec]
) -> dict[str, oip.ModelInferRequest.InferInputTensor]:
    by_name = {tensor.name: tensor for tensor in inputs}
    names = {spec.name for spec in expected}
    if len(by_name) != len(inputs):
        raise InvalidRequestError("an input name occurs twice")
    for name in by_name:
        if name not in names:
            raise InvalidRequestError(f"unexpected input {quote(name)}")
    for name in names:
        if name not in by_name:
            raise InvalidRequestError(f"missing input {name!r}")
    return by_name


def _check_header(
    tensor: oip.ModelInferRequest.InferInputTensor, spec: TensorSpec, max_batch_size: int
) -> tuple[int, ...]:
    """Datatype and shape; after it, the tensor's size is bounded by the signature."""
    where = f"input {spec.name!r}"
    shape = tuple(tensor.shape)
    _refuse_parameters("input", tensor)
    if tensor.datatype != spec.datatype:
        raise InvalidRequestError(f"{where} has datatype {quote(tensor.datatype)}")
    if len(shape) != len(spec.shape):
        raise InvalidRequestError(f"{where} has {len(shape)} dimensions")
    if shape[0] == 0:
        raise InvalidRequestError(f"{where} is an empty batch, shape {list(shape)}")
    if not _fits(shape, spec.shape):
        raise InvalidRequestError(f"{where} has shape {list(shape)}")
    if shape[0] > max_batch_size:
        raise InvalidRequestError(f"{where} is a batch of {shape[0]}")
    return shape


def _fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(shape) == len(expected) and all(
        size > 0 if any_or_size == -1 else size == any_or_size
        for size, any_or_size in zip(shape, expected, strict=True)
    )


def _refuse_parameters(
    kind: str,
    tensor: oip.ModelInferRequest.InferInputTensor
    | oip.ModelInferRequest.InferRequestedOutputTensor,
) -> None:
    # A parameter names an extension, such as shared memory, that changes what the tensor means.
    for key in tensor.parameters:
        raise InvalidRequestError(
            f"{kind} {tensor.name!r} has the unsupported parameter {quote(key)}"
        )
