"""A request's own part of what a batch gave, and whether it may be sent."""

from collections.abc import Mapping

import numpy as np

from serving.core.errors import NONFINITE_OUTPUT, Kind, ServingError
from serving.core.model import ServedModel
from serving.core.request import Timings
from serving.core.sequences import cut_back
from serving.core.waiter import Part, Waiter


def settle(
    waiter: Waiter,
    model: ServedModel,
    outputs: dict[str, np.ndarray],
    timings: Timings,
    *,
    may_be_nonfinite: bool,
    refuses_nonfinite: bool,
) -> None:
    """Answers a request that waits.

    Args:
        waiter: the request.
        model: that has computed.
        outputs: by name its rows of them, filled up as its inputs were.
        timings: how long it took.
        may_be_nonfinite: something in the batch is NaN or infinite.
        refuses_nonfinite: a request for which it is its own fails.
    """
    if waiter.lengths:
        outputs = cut_back(outputs, waiter.lengths, model)
    name = _nonfinite(outputs) if may_be_nonfinite else None
    if name is not None and refuses_nonfinite:
        waiter.fail(
            ServingError(
                Kind.INVALID,
                f"output {name!r} of model {model.name!r} is not finite for this input: its values "
                "are too large for the model",
                reason=NONFINITE_OUTPUT,
            )
        )
    else:
        part = Part(outputs, timings, waiter.attempts - 1, nonfinite=name is not None)
        waiter.future.set_result(part)


def _nonfinite(outputs: Mapping[str, np.ndarray]) -> str | None:
    """The first output that has NaN or infinity."""
    for name, array in outputs.items():
        with np.errstate(invalid="ignore"):  # bfloat16 would warn of the NaN that we look for
            if array.dtype.kind not in "?iuO" and not np.isfinite(array).all():
                return name
    return None
