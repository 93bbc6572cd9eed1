"""Probabilities are those of the logits, whatever their size, and classes have their names."""

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from serving.core.errors import Kind, ServingError
from serving.core.model import ServedModel
from serving.core.request import Answer
from serving.core.signature import TensorSpec
from serving.protocols.over_http.prediction import parse_predict, predictions, softmax
from serving.protocols.over_http.replies import json_reply
from serving.testing.served_models import DIGITS

# Of float64: a handful of roundings in the exponential, the sum and the quotient.
RTOL = 1e-14


def exact_softmax(logits: list[int]) -> list[float]:
    """Of logits that are multiples of log(2), in whole numbers: powers of two and nothing else."""
    powers = [Fraction(2) ** (logit - max(logits)) for logit in logits]
    return [float(power / sum(powers)) for power in powers]


@pytest.mark.parametrize(
    "logits", [[0, 0], [1, 2, 3], [-40, 0, 40], [10**6, 10**6 - 1], [-(10**8), -(10**8) - 3]]
)
def test_probabilities_are_exact_for_logits_of_any_size(logits: list[int]) -> None:
    found = softmax(np.array([logits], np.float64) * np.log(2))
    # The product with log(2) is rounded, by half a unit in the last place of the logit.
    rounding = np.spacing(max(map(abs, logits)) * np.log(2))
    np.testing.assert_allclose(found[0], exact_softmax(logits), rtol=RTOL + 2 * rounding)


def told(model: ServedModel, top_k: int, **outputs: Any) -> Any:
    arrays = {name: np.array(values, np.float32) for name, values in outputs.items()}
    return json.loads(json_reply(predictions(Answer("m", "1", arrays), model, top_k)).body)


def classifier(*names: str) -> ServedModel:
    spec = TensorSpec("logits", "FP32", (-1, 3))
    return replace(DIGITS, outputs=(spec,), class_names=names)


def test_the_most_probable_classes_come_first_by_name() -> None:
    values = np.log([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]])
    first, second = told(classifier("cat", "dog", "owl"), 2, logits=values)["predictions"]
    assert (first["class"], first["classes"]) == ("dog", ["dog", "owl"])
    np.testing.assert_allclose(first["probabilities"], [0.5, 0.3], rtol=1e-6)  # logits are float32
    assert first["probability"] == first["probabilities"][0]
    assert (second["class"], second["classes"]) == ("cat", ["cat", "dog"])


def test_classes_without_names_are_numbers_and_equals_keep_their_order() -> None:
    (one,) = told(classifier(), 9, logits=[[1, 5, 5]])["predictions"]
    assert one["classes"] == ["1", "2", "0"]
    assert sum(one["probabilities"]) == pytest.approx(1, abs=1e-15)


def test_what_is_no_classifier_has_its_outputs() -> None:
    specs = (TensorSpec("values", "FP32", (-1, 2)), TensorSpec("score", "FP32", (-1,)))
    model = replace(DIGITS, outputs=specs, class_names=())
    assert told(model, 5, values=[[1, 2], [3, 4]], score=[5, 6]) == {
        "outputs": {"values": [[1, 2], [3, 4]], "score": [5, 6]}
    }


def test_a_model_of_tokens_scores_each_of_them_and_is_no_classifier() -> None:
    model = replace(DIGITS, outputs=(TensorSpec("logits", "FP32", (-1, 2, 3)),), class_names=())
    assert list(told(model, 5, logits=np.zeros((1, 2, 3)))) == ["outputs"]


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_no_answer(wrong: float) -> None:
    with pytest.raises(ServingError, match="output 'logits' has NaN or infinite") as raised:
        told(classifier(), 1, logits=[[0, wrong, 0]])
    assert raised.value.kind is Kind.INVALID


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "expected either"),
        ({"image": "x", "inputs": [1]}, "expected either"),
        ({"image": None}, "expected either"),
        ({"image": 1}, "image: expected a string"),
        ({"inputs": [1], "top_k": 0}, "top_k: expected a whole number of at least 1"),
        ({"inputs": [1], "top_k": True}, "top_k: expected a whole number"),
        ({"inputs": [1], "top_k": 1.0}, "top_k: expected a whole number"),
        ({"inputs": [1], "model": 1}, "model: expected a string"),
        ({"inputs": [1], "version": []}, "version: expected a string"),
        ({"inputs": [1], "input": [1]}, "unknown key 'input'; accepted: image, inputs, model, ver"),
        ([1], "expected an object; its keys: image, inputs"),
    ],
)
def test_what_is_no_such_request_is_refused(request_: Any, message: str) -> None:
    with pytest.raises(ServingError, match=message):
        parse_predict(request_)
