"""Plain numbers, as people write them, to a model's inputs: one example, or a batch of them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.core.errors import ServingError, invalid, quote
from serving.core.model import ServedModel
from serving.core.request import Arrays
from serving.core.signature import TensorSpec
from serving.core.validation import check_arrays
from serving.protocols.over_http.json_tensors import flatten, numbers_of

# numpy has no more dimensions.
_MAX_DEPTH = 64


def plain_inputs(model: ServedModel, given: Any) -> Arrays:
    """Reads the inputs of a model.

    Args:
        model: whose.
        given: as JSON had it: an object by the names of the inputs, or of a model of one input
            that input itself. An input is a list of numbers, or an array of them where they are
            many, nested as the signature says, of one example or of a batch; dimensions of 1 may be
            left out, and an example may be one flat list. Sequences of a batch may differ in length
            where the signature pads them.

    Raises:
        ServingError: INVALID; the message says what is expected.
    """
    specs = {spec.name: spec for spec in model.inputs}
    signature = ", ".join(map(str, model.inputs))
    if type(given) is not dict:
        if len(specs) != 1:
            raise invalid(f"inputs: expected an object by name; the model's inputs: {signature}")
        given = {next(iter(specs)): given}
    for name in given:
        if name not in specs:
            raise invalid(f"unexpected input {quote(name)}; expected inputs: {signature}")
    return check_arrays(model, {name: _batch(specs[name], given[name]) for name in given})


def _batch(spec: TensorSpec, given: Any) -> np.ndarray:
    """One input of all examples."""
    where = f"input {spec.name!r}"
    if spec.padding is not None and _is_ragged(given):
        given = _filled(given, spec.padding)
    given_shape = _shape_of(where, given)
    flat = flatten(where, given, given_shape)
    shape = _batch_shape(spec, given_shape)
    if shape is None:
        raise _other_shape(spec, given_shape)
    return numbers_of(where, spec.datatype, flat).reshape(shape)


def _batch_shape(spec: TensorSpec, given: Sequence[int]) -> list[int] | None:
    """The shape of a batch that has the elements of a list of the given shape; None: no batch."""
    if (example := _example_shape(spec, given)) is not None:
        return [1, *example]
    if given and (example := _example_shape(spec, given[1:])) is not None:
        return [given[0], *example]
    return None


def _example_shape(spec: TensorSpec, given: Sequence[int]) -> list[int] | None:
    """The shape of an example that is written with the given one; None: it is none."""
    expected = spec.shape[1:]
    if len(given) == len(expected):
        fits = all(_may_be(spec, axis, size) for axis, size in enumerate(given))
        return list(given) if fits else None
    if -1 in expected or len(given) >= max(2, len(expected)):
        return None
    flat = [*given] == [math.prod(expected)]
    same_but_for_ones = _long(given) == _long(expected)
    return list(expected) if flat or same_but_for_ones else None


def _long(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _may_be(spec: TensorSpec, axis: int, size: int) -> bool:
    """Whether a dimension of an example may have a size."""
    expected = spec.shape[axis + 1]
    shorter = axis == 0 and spec.padding is not None and 0 < size < expected
    return size == expected or (expected == -1 and size > 0) or shorter


def _shape_of(where: str, given: Any) -> list[int]:
    """The shape that the first elements tell; `flatten` sees to the others."""
    if isinstance(given, np.ndarray):
        return list(given.shape)
    shape: list[int] = []
    while type(given) is list:
        shape.append(len(given))
        if len(shape) > _MAX_DEPTH:
            raise invalid(f"{where}: lists are nested too deeply")
        given = given[0] if given else None
    if not shape:
        raise invalid(f"{where}: expected a list of numbers")
    return shape


def _is_ragged(given: Any) -> bool:
    return (
        type(given) is list
        and set(map(type, given)) == {list}
        and len(set(map(len, given))) > 1
        and all(given)
    )


def _filled(sequences: Sequence[list[Any]], padding: float) -> list[list[Any]]:
    longest = max(map(len, sequences))
    return [[*sequence, *[padding] * (longest - len(sequence))] for sequence in sequences]


def _other_shape(spec: TensorSpec, given: Sequence[int]) -> ServingError:
    return invalid(
        f"input {spec.name!r} has lists of the shape {list(given[:8])}; expected one example of "
        f"the shape {list(spec.shape[1:])}, or a list of examples"
    )
