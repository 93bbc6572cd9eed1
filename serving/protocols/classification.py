"""The largest values of an output, as strings with their index and label.

Reference: https://github.com/triton-inference-server/server, docs/protocol/
extension_classification.md.
"""

from collections.abc import Sequence

import numpy as np

from serving.core.errors import invalid
from serving.core.signature import TensorSpec


def check_classification(spec: TensorSpec, count: int) -> None:
    """Refuses more classes than an output has.

    Args:
        spec: Of the output.
        count: How many classes are asked for.

    Raises:
        ServingError: INVALID.
    """
    if spec.datatype == "BOOL" or len(spec.shape) < 2:
        raise invalid(
            f"output {spec.name!r}: classification of {spec.datatype} {list(spec.shape)}; "
            "expected an output of numbers for each example"
        )
    sizes = spec.shape[1:]
    classes = int(np.prod(sizes, dtype=object)) if -1 not in sizes else count
    if count > classes:
        raise invalid(
            f"output {spec.name!r}: classification is {count}; expected 1 to {classes}, "
            "the number of its classes"
        )


def classify(values: np.ndarray, count: int, labels: Sequence[str]) -> np.ndarray:
    """The largest values of each example, largest first; of equal ones the first comes first.

    Args:
        values: [batch, ...] of numbers. All dimensions but the batch count as one.
        count: How many of them; at most as many as there are.
        labels: Of the values; those without one have none.

    Returns:
        [batch, count] of bytes, "value:index" or "value:index:label", in UTF-8. The value is
        written with as many digits as its datatype needs to be read back unchanged.
    """
    flat = values.reshape(len(values), -1)
    # A stable sort from the back, reversed, keeps the order of equal values.
    last = flat.shape[1] - 1
    order = last - np.argsort(flat[:, ::-1], axis=1, kind="stable")[:, ::-1][:, :count]
    strings = np.empty(order.shape, object)
    for example, indices in enumerate(order):
        for place, index in enumerate(indices):
            label = f":{labels[index]}" if index < len(labels) else ""
            strings[example, place] = f"{flat[example, index]!s}:{index}{label}".encode()
    return strings
