"""One batch through a model: wanted outputs, how long it took, and whether they are numbers."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from serving.core.channel import Computed

Arrays = Mapping[str, np.ndarray]

# Inputs by name to outputs by name; all have the batch in front.
Compute = Callable[[Arrays], Arrays]


def computed(
    compute: Compute, inputs: Arrays, wanted: Sequence[str], batch_size: int, replica: str
) -> Computed:
    """Computes a batch.

    Args:
        compute: The model.
        inputs: [batch_size, ...] by name.
        wanted: Names of outputs.
        batch_size: Of the inputs.
        replica: Who computes.

    Returns:
        The wanted outputs in that order, C-contiguous.

    Raises:
        ValueError: The model gave something else than a batch of the wanted outputs.
    """
    begin = time.perf_counter()
    results = compute(inputs)
    infer_s = time.perf_counter() - begin
    outputs = {name: np.ascontiguousarray(results[name]) for name in wanted}
    for name, output in outputs.items():
        if output.shape[:1] != (batch_size,):
            raise ValueError(
                f"the model gave {name} of shape {list(output.shape)} for {batch_size} examples"
            )
    return Computed(outputs, infer_s, replica, any(map(has_nonfinite, outputs.values())))


def has_nonfinite(array: np.ndarray) -> bool:
    """Whether an array of floats holds NaN or infinity; of other arrays it is False.

    To look at the sum instead takes no memory, and longer at every size and type, up to four times.
    """
    # V is what bfloat16 is to NumPy.
    return array.dtype.kind in "fV" and not np.isfinite(array).all()
