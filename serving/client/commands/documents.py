"""JSON as the inputs of a model: a request of the protocol, or just numbers.

    {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 2], "data": [0, 1]}]}
    {"image": [[0, 1]]}
    [[0, 1]]

The first is a request as REST has it; the second needs the signature for its datatypes, and the
third for the name too.

Reference: https://github.com/kserve/open-inference-protocol, "Inference Request JSON Object".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.client.encoding import ParameterValue, WantedOutputs
from serving.core.signature import DTYPES
from serving.protocols.elements import BYTES


class Spec(NamedTuple):
    """Name and datatype of an input."""

    name: str
    datatype: str


class Request(NamedTuple):
    """What a document asks for."""

    inputs: Mapping[str, np.ndarray]
    outputs: WantedOutputs = ()
    request_id: str = ""
    parameters: Mapping[str, ParameterValue] = {}


def request_from(document: Any, specs: Sequence[Spec]) -> Request:
    """Reads a document.

    Args:
        document: what JSON holds.
        specs: the inputs of the model.

    Raises:
        ValueError: it is none of the three forms, or its values do not fit their datatype.
    """
    if isinstance(document, dict):
        if isinstance(document.get("inputs"), list) and _is_request(document["inputs"]):
            return _protocol_request(document)
        datatypes = dict(specs)
        if unknown := [name for name in document if name not in datatypes]:
            known = ", ".join(map(repr, datatypes))
            raise ValueError(f"the model has no input {unknown[0]!r}; it has {known}")
        return Request(
            {name: _array(name, datatypes[name], data) for name, data in document.items()}
        )
    spec = only(specs)
    return Request({spec.name: _array(spec.name, spec.datatype, document)})


def only(specs: Sequence[Spec]) -> Spec:
    """The lone input of a model.

    Raises:
        ValueError: it has several.
    """
    if len(specs) != 1:
        names = ", ".join(repr(spec.name) for spec in specs)
        raise ValueError(
            f"the model has {len(specs)} inputs ({names}); give them by name, in a .npz or in JSON"
        )
    return specs[0]


def _is_request(inputs: list[Any]) -> bool:
    return bool(inputs) and all(isinstance(tensor, dict) for tensor in inputs)


def _protocol_request(document: Mapping[str, Any]) -> Request:
    _check_keys("the request", document, ("inputs",), ("outputs", "id", "parameters"))
    inputs = {}
    for tensor in document["inputs"]:
        _check_keys("an input", tensor, ("name", "datatype", "shape", "data"))
        name = tensor["name"]
        array = _array(name, tensor["datatype"], tensor["data"])
        try:
            inputs[name] = array.reshape(tensor["shape"])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"input {name!r} has {array.size} values, shape {tensor['shape']}"
            ) from error
    wanted = {}
    for output in document.get("outputs", []):
        _check_keys("an output", output, ("name",), ("parameters",))
        wanted[output["name"]] = output.get("parameters", {})
    return Request(
        inputs, wanted, str(document.get("id", "")), dict(document.get("parameters", {}))
    )


def _check_keys(
    where: str, found: Any, required: Sequence[str], optional: Sequence[str] = ()
) -> None:
    accepted = ", ".join([*required, *optional])
    if not isinstance(found, dict):
        raise ValueError(f"{where} must be an object with {accepted}")
    for key in required:
        if key not in found:
            raise ValueError(f"{where} has no {key!r}")
    for key in found:
        if key not in required and key not in optional:
            raise ValueError(f"{where} has {key!r}; accepted: {accepted}")


def _array(name: str, datatype: str, data: Any) -> np.ndarray:
    if datatype == BYTES:
        return np.array(data, object)
    if datatype not in DTYPES:
        known = ", ".join([*DTYPES, BYTES])
        raise ValueError(f"input {name!r} has datatype {datatype!r}; expected one of {known}")
    dtype = DTYPES[datatype]
    kinds = {"b": bool, "u": int, "i": int}.get(dtype.kind, (int, float))
    try:
        for value in _leaves(data):
            # A bool is an int in Python, and not in JSON.
            if not isinstance(value, kinds) or (isinstance(value, bool) and dtype.kind != "b"):
                raise ValueError(f"it has the value {value!r}")
        return np.array(data, dtype)
    # An integer out of range, a list that is ragged or too deep.
    except (OverflowError, ValueError, RecursionError) as error:
        raise ValueError(f"input {name!r} is no {datatype} array: {error}") from error


def _leaves(data: Any) -> Iterable[Any]:
    if isinstance(data, list):
        for element in data:
            yield from _leaves(element)
    else:
        yield data
