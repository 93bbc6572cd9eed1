"""How far predicted numbers are from the true ones."""

import numpy as np

from data.dataset import ExampleSpec
from train.tasks.estimates import Estimate, moments, ratio
from train.tasks.task import Outcomes, Summary, Tally

# Of a target's mean square, the part that float64 sums may lose.
_ROUNDING = 1e-12


def measure(outputs: np.ndarray, targets: np.ndarray) -> Tally:
    """Measures predictions, in float64.

    Args:
        outputs: `[num_examples, num_targets]` float32.
        targets: Likewise.

    Returns:
        What `summarize` makes the metrics of.
    """
    targets = targets.astype(np.float64)
    errors = outputs - targets
    squares = np.square(errors)
    values, weights = outcomes(outputs, targets)
    return {
        "absolute_errors": moments(values["mae"], weights),
        "squared_errors": moments(values["mse"], weights),
        "count": np.array(len(errors)),
        "squared_errors_of": squares.sum(axis=0),
        "targets_of": targets.sum(axis=0),
        "squared_targets_of": np.square(targets).sum(axis=0),
    }


def outcomes(outputs: np.ndarray, targets: np.ndarray) -> Outcomes:
    """Returns of each example the absolute and the squared errors of its numbers, in float64.

    Args:
        outputs: `[num_examples, num_targets]` float32.
        targets: Likewise.
    """
    errors = outputs - targets.astype(np.float64)
    values = {"mae": np.abs(errors).sum(axis=1), "mse": np.square(errors).sum(axis=1)}
    return Outcomes(values, np.full(len(errors), float(errors.shape[1])))


def summarize(total: Tally, examples: ExampleSpec) -> Summary | None:
    """Returns `mae`, `mse` and `r2`.

    `mae` and `mse` are the mean absolute and the mean squared error of all numbers. `r2` is the
    coefficient of determination, a mean over the targets: 1 - (squared error / that of the held-out
    mean). Of a target that does not change, to a millionth of it, it is 1 if that is predicted,
    and else 0. It has no interval.
    """
    count = int(total["count"])
    if not count:
        return None
    errors = total["squared_errors_of"]
    squares = total["squared_targets_of"]
    spread = squares - np.square(total["targets_of"]) / count
    changes = spread > _ROUNDING * squares
    r2 = np.where(changes, 1 - errors / np.where(changes, spread, 1.0), errors == 0)
    estimates = {
        "mae": ratio(total["absolute_errors"]),
        "mse": ratio(total["squared_errors"]),
        "r2": Estimate(float(r2.mean())),
    }
    return Summary(estimates, count * len(errors))
