"""`POST /predict`: a picture or plain numbers in, classes and probabilities out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.core.errors import NONFINITE_OUTPUT, Kind, ServingError, invalid
from serving.core.model import ServedModel
from serving.core.request import Answer
from serving.core.signature import TensorSpec
from serving.core.validation import is_finite
from serving.protocols.over_http.json_objects import Json, Keys, optional_text

_KEYS = Keys(optional=("image", "inputs", "model", "version", "top_k"))
_DEFAULT_TOP_K = 5

# What networks here call the output of a classifier: the logarithm of each class's probability,
# but for one number.
_LOGITS = "logits"


class PredictRequest(NamedTuple):
    """A request.

    Attributes:
        image: a file in base64; None: there are inputs.
        inputs: plain numbers.
        model: a name; "": the first one that is served.
        version: of it; "": the one that the name stands for.
        top_k: how many classes are told.
    """

    image: str | None
    inputs: Any
    model: str
    version: str
    top_k: int


def parse_predict(request: Json) -> PredictRequest:
    """Reads a request.

    Raises:
        ServingError: INVALID; the message says what is expected.
    """
    _KEYS.check("the request", request)
    image = optional_text("the request", request, "image")
    if (image is None) == ("inputs" not in request):
        raise invalid(
            'expected either {"image": "<a PNG or JPEG in base64>"} or {"inputs": [numbers]}'
        )
    top_k = request.get("top_k", _DEFAULT_TOP_K)
    if type(top_k) is not int or top_k < 1:
        raise invalid(
            f"top_k: expected a whole number of at least 1, the default is {_DEFAULT_TOP_K}"
        )
    return PredictRequest(
        image,
        request.get("inputs"),
        optional_text("the request", request, "model") or "",
        optional_text("the request", request, "version") or "",
        top_k,
    )


def predictions(answer: Answer, model: ServedModel, top_k: int) -> dict[str, Any]:
    """What is said of each example.

    Args:
        answer: of the model: its logits, or of what is no classifier all outputs.
        model: which.
        top_k: how many classes.

    Returns:
        Of a classifier `{"predictions": [...]}`, with one entry an example: the most probable
        `class`, its `probability`, and the `classes` and `probabilities` of the `top_k` most
        probable ones. Of any other model `{"outputs": {name: nested lists}}`.

    Raises:
        ServingError: INVALID: the model has given what is no number, which JSON has not.
    """
    for name, array in answer.outputs.items():
        if not is_finite(array):
            raise ServingError(
                Kind.INVALID,
                f"output {name!r} has NaN or infinite values for these inputs, which JSON has not",
                reason=NONFINITE_OUTPUT,
            )
    spec = logits_of(model)
    if spec is None:
        return {"outputs": {name: _listed(array) for name, array in answer.outputs.items()}}
    logits = answer.outputs[spec.name].astype(np.float64)
    count = min(top_k, logits.shape[1])
    names = model.class_names or [str(index) for index in range(logits.shape[1])]
    return {"predictions": [_prediction(row, names, count) for row in softmax(logits)]}


def logits_of(model: ServedModel) -> TensorSpec | None:
    """The output that scores the classes of an example; None: the model is no classifier."""
    for spec in model.outputs:
        named = spec.name == _LOGITS or len(model.class_names) == spec.shape[-1]
        if named and len(spec.shape) == 2 and spec.shape[1] > 1:
            return spec
    return None


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities `[batch, classes]` float64, for logits of any finite size."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _prediction(probabilities: np.ndarray, names: Sequence[str], count: int) -> dict[str, Any]:
    order = np.argsort(-probabilities, kind="stable")[:count]
    return {
        "class": names[order[0]],
        "probability": probabilities[order[0]],
        "classes": [names[index] for index in order],
        "probabilities": probabilities[order],
    }


def _listed(array: np.ndarray) -> Any:
    # Types of 16 bits have no form in JSON; 32 bits hold each of their values.
    of_16_bits = array.dtype.itemsize == 2 and array.dtype.kind not in "iu"
    return np.ascontiguousarray(array, np.float32 if of_16_bits else None)
