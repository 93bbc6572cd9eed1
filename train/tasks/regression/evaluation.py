"""How far predicted numbers are from the true ones."""

import numpy as np

from train.tasks.task import Measured


def measure(outputs: np.ndarray, targets: np.ndarray) -> Measured:
    """Measures predictions, in float64.

    Args:
        outputs: `[num_examples, num_targets]` float32.
        targets: Likewise.

    Returns:
        `mae` and `mse`, the mean absolute and the mean squared error of all numbers.
    """
    errors = outputs.astype(np.float64) - targets
    sums = {"mae": float(np.abs(errors).sum()), "mse": float(np.square(errors).sum())}
    return Measured(sums, errors.size)
