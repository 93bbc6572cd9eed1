"""The tensors of a request, compared with a model's signature.

Everything in a request comes from a network. Names, datatypes and shapes are compared first: after
that the size of each tensor is bounded, and only then its content is read and memory allocated.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from serving.core.errors import ServingError, invalid, quote
from serving.core.model import ServedModel
from serving.core.signature import TensorSpec


class TensorHeader(NamedTuple):
    """What a request says of one of its inputs.

    Attributes:
        name: Of the input.
        datatype: As the protocol names it.
        shape: With the batch first.
    """

    name: str
    datatype: str
    shape: Sequence[int]


# Takes the index of an input in the request and the number of its elements, and returns these:
# [num_elements], in the input's datatype. It raises ServingError if they are something else.
ReadElements = Callable[[int, int], np.ndarray]


def read_inputs(
    model: ServedModel, headers: Sequence[TensorHeader], read: ReadElements
) -> dict[str, np.ndarray]:
    """The inputs of a request by name, in the order of the signature.

    Args:
        model: Whose signature they must fit.
        headers: What the request says of its inputs, in any order.
        read: Reads the elements of one. It is called only once all headers are right, so what
            it allocates is bounded by the signature, or where that leaves a dimension open, by the
            number of elements that the content must have.

    Returns:
        Arrays of the signature's datatypes and shapes; sequences may be shorter, where the
        signature pads them.

    Raises:
        ServingError: INVALID; the message names the tensor and what is expected of it.
    """
    check_headers(model, headers)
    places = {header.name: index for index, header in enumerate(headers)}
    arrays = {}
    for spec in model.inputs:
        index = places[spec.name]
        shape = headers[index].shape
        elements = read(index, math.prod(shape))
        check_values(spec, elements)
        arrays[spec.name] = elements.reshape(shape)
    return arrays


def check_arrays(model: ServedModel, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays that were made here, such as those of images, as inputs of a model.

    Args:
        model: Whose signature they must fit.
        arrays: By name, of the signature's datatypes.

    Raises:
        ServingError: INVALID, as of `read_inputs`.
    """
    types = {spec.name: spec.datatype for spec in model.inputs}
    headers = [TensorHeader(n, types.get(n, str(a.dtype)), a.shape) for n, a in arrays.items()]
    values = list(arrays.values())
    return read_inputs(model, headers, lambda index, _: values[index].reshape(-1))


def check_headers(model: ServedModel, headers: Sequence[TensorHeader]) -> None:
    """Compares names, datatypes, shapes and the batch with the signature.

    Raises:
        ServingError: INVALID; the message names the tensor and what is expected of it.
    """
    by_name = {header.name: header for header in headers}
    if len(by_name) != len(headers) or by_name.keys() != {spec.name for spec in model.inputs}:
        raise _other_names(model, [header.name for header in headers])
    for spec in model.inputs:
        _check_header(spec, by_name[spec.name], model.max_batch_size)
    if len({header.shape[0] for header in headers}) > 1:
        said = ", ".join(f"{header.shape[0]} in {header.name!r}" for header in headers)
        raise invalid(f"inputs differ in their batch: {said}; expected the same in all")


def check_values(spec: TensorSpec, elements: np.ndarray) -> None:
    """Refuses NaN, infinite values, and integers from the signature's limit on.

    Raises:
        ServingError: INVALID.
    """
    if not is_finite(elements):
        raise invalid(f"input {spec.name!r} has NaN or infinite values; expected finite ones")
    if spec.limit is not None and (largest := elements.max()) >= spec.limit:
        raise invalid(
            f"input {spec.name!r} has the value {largest}; expected values below {spec.limit}"
        )


def wanted_outputs(model: ServedModel, names: Sequence[str]) -> tuple[TensorSpec, ...]:
    """The outputs that a request asks for, in its order; all of them if it names none.

    Raises:
        ServingError: INVALID: one is unknown, or asked for twice.
    """
    if not names:
        return model.outputs
    by_name = {spec.name: spec for spec in model.outputs}
    signature = ", ".join(map(str, model.outputs))
    for name in names:
        if name not in by_name:
            raise invalid(f"unknown output {quote(name)}; expected outputs: {signature}")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise invalid(f"output {twice!r} is requested twice; expected outputs: {signature}")
    return tuple(by_name[name] for name in names)


def is_finite(array: np.ndarray) -> bool:
    """True if no value is NaN or infinite."""
    kind = array.dtype.kind
    if kind in "?biuO":
        return True
    # To look for a byte takes a third of the time of `all`, for a small array.
    if kind == "f":
        return b"\0" not in np.isfinite(array).tobytes()
    with np.errstate(invalid="ignore"):  # bfloat16 would warn of the NaN that we look for
        return b"\0" not in np.isfinite(array).tobytes()


def _other_names(model: ServedModel, names: Sequence[str]) -> ServingError:
    """Says which of the names is wrong, or missing."""
    signature = ", ".join(map(str, model.inputs))
    known = [spec.name for spec in model.inputs]
    for name in names:
        if name not in known:
            return invalid(f"unexpected input {quote(name)}; expected inputs: {signature}")
        if names.count(name) > 1:
            return invalid(f"input {name!r} occurs twice; expected inputs: {signature}")
    missing = next(name for name in known if name not in names)
    return invalid(f"missing input {missing!r}; expected inputs: {signature}")


def _check_header(spec: TensorSpec, header: TensorHeader, max_batch_size: int) -> None:
    """Datatype and shape; afterwards the tensor's size is bounded by the signature."""
    where, shape = f"input {spec.name!r}", header.shape
    if header.datatype != spec.datatype:
        strings = ": no model here takes strings" if header.datatype == "BYTES" else ""
        raise invalid(
            f"{where} has datatype {quote(header.datatype)}; expected {spec.datatype}{strings}"
        )
    if not _fits(shape, spec):
        raise invalid(f"{where} has shape {quote_shape(shape)}; expected {_expected_shape(spec)}")
    if not 1 <= shape[0] <= max_batch_size:
        raise invalid(f"{where} has a batch of {shape[0]}; expected 1 to {max_batch_size}")


def quote_shape(shape: Sequence[int]) -> str:
    """A shape from a request as it may appear in an error."""
    shown = ", ".join(map(str, shape[:8]))
    return f"[{shown}]" if len(shape) <= 8 else f"[{shown}, ...] of {len(shape)} dimensions"


def _fits(shape: Sequence[int], spec: TensorSpec) -> bool:
    """Compares all dimensions but the batch."""
    if len(shape) != len(spec.shape):
        return False
    for dimension in range(1, len(shape)):
        size, expected = shape[dimension], spec.shape[dimension]
        if size == expected and size > 0:  # -1 is a size in a signature only
            continue
        shorter = dimension == 1 and spec.padding is not None and size < expected
        if size < 1 or (expected != -1 and not shorter):
            return False
    return True


def _expected_shape(spec: TensorSpec) -> str:
    shape = str(list(spec.shape))
    if spec.padding is None or len(spec.shape) < 2:
        return shape
    return f"{shape}, where dimension 1 may be shorter"
