"""Models for tests of protocols: each is small enough to be checked by hand."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from serving.core.model import ServedModel
from serving.core.signature import DTYPES, TensorSpec
from serving.replicas.compute import Compute
from serving.testing.local_replica import IMAGE, LOGITS, mean_of_each_row

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _served(
    name: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], **facts: object
) -> ServedModel:
    return ServedModel(
        name=name,
        version="1.2.3",
        platform="numpy_none",
        directory=Path("unused"),
        digest="0" * 64,
        inputs=inputs,
        outputs=outputs,
        max_batch_size=8,
        properties={"architecture": "mlp", "max_batch_size": "8"},
        **facts,  # type: ignore[arg-type]
    )


# Images to logits, as `mean_of_each_row` computes them.
DIGITS = _served("digits", (IMAGE,), (LOGITS,), class_names=CLASS_NAMES)

# Two inputs and two outputs.
PAIR = _served(
    "pair",
    (TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "INT64", (-1,))),
    (TensorSpec("sum", "FP32", (-1, 2)), TensorSpec("double", "INT64", (-1,))),
)

# Sequences of up to four tokens, and what is said of each of them.
TOKENS = _served(
    "tokens",
    (TensorSpec("tokens", "INT32", (-1, 4), limit=256, padding=-1),),
    (TensorSpec("next", "INT32", (-1, 4), follows="tokens"),),
)

# Of every datatype one model that gives back what it gets.
ECHOES = tuple(
    _served(
        f"echo_{datatype.lower()}",
        (TensorSpec("x", datatype, (-1, 3)),),
        (TensorSpec("y", datatype, (-1, 3)),),
    )
    for datatype in DTYPES
)


def pair(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What PAIR computes."""
    sums = inputs["a"] + inputs["b"][:, np.newaxis].astype(np.float32)
    return {"sum": sums, "double": 2 * inputs["b"]}


def next_tokens(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What TOKENS computes: the token after each."""
    return {"next": inputs["tokens"] + np.int32(1)}


def echo(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What each of ECHOES computes."""
    return {"y": inputs["x"].copy()}


# Every model with what it computes.
ALL: tuple[tuple[ServedModel, Compute], ...] = (
    (DIGITS, mean_of_each_row),
    (PAIR, pair),
    (TOKENS, next_tokens),
    *[(model, echo) for model in ECHOES],
)
