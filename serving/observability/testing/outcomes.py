"""Models, requests and how they ended, for tests of what looks at them."""

from pathlib import Path
from typing import Any

import numpy as np

from serving.core.errors import ServingError
from serving.core.model import ServedModel
from serving.core.outcome import Outcome
from serving.core.request import Answer, Arrays, Call, Protocol, Timings
from serving.core.signature import TensorSpec


def model(
    name: str = "digits", version: str = "1.0.0", *, classes: tuple[str, ...] = ("a", "b", "c")
) -> ServedModel:
    """A model of vectors, a classifier if there are classes."""
    return ServedModel(
        name=name,
        version=version,
        platform="flax_safetensors",
        directory=Path("/absent"),
        digest="0" * 64,
        inputs=(TensorSpec("x", "FP32", (-1, 2)),),
        outputs=(TensorSpec("logits", "FP32", (-1, len(classes) or 3)),),
        class_names=classes,
    )


def call(**changed: Any) -> Call:
    """A request of a hundred bytes that came through gRPC."""
    given: dict[str, Any] = {
        "protocol": Protocol.GRPC,
        "model": "digits",
        "version": "",
        "request_id": "r-1",
        "client": "192.0.2.7",
        "size_bytes": 100,
        "deadline": 1000.0,
    }
    return Call(**(given | changed))


def outcome(
    served: ServedModel | None,
    *,
    duration_s: float = 0.25,
    outputs: Arrays | None = None,
    timings: Timings | None = None,
    error: ServingError | None = None,
    **changed: Any,
) -> Outcome:
    """A request that was over at the second 50.0 of the monotonic clock.

    Args:
        served: what was asked for; None: nothing that is served.
        duration_s: that it took.
        outputs: of its answer, by default 12 bytes; there is none if there is an error.
        timings: by default those of the first of a batch of 4.
        error: why there is no answer.
        changed: other attributes.
    """
    spent = timings or Timings(0.125, 0.0625, 4, "digits-0", first=True)
    answer = None
    if error is None:
        given = logits([1, 2, 3]) if outputs is None else outputs
        answer = Answer(served.name if served else "", "", given, spent)
    asked = changed.pop("call", None) or call(model=served.name if served else "made-up")
    return Outcome(
        call=asked,
        known=served is not None,
        version=served.version if served else "",
        error=error,
        answer=answer,
        started=50.0 - duration_s,
        ended=50.0,
        batch_size=1,
        timings=spent,
    )._replace(**changed)


def logits(*rows: list[float]) -> dict[str, np.ndarray]:
    """An answer of so many examples."""
    return {"logits": np.array(rows, np.float32)}
