"""The training losses of a run, as few numbers among a row's metrics."""

import statistics
from collections.abc import Mapping, Sequence

_PREFIX = "train_loss_to_step_"


def curve_metrics(losses: Sequence[float], num_points: int) -> dict[str, float]:
    """Returns means of the losses of a run's steps, by the name of the last step of each.

    Args:
      losses: Of each step.
      num_points: Means over the run, or so many and a few more; all losses of a shorter run.
    """
    width = max(1, len(losses) // num_points)
    return {
        f"{_PREFIX}{start + width}": statistics.fmean(losses[start : start + width])
        for start in range(0, len(losses) - width + 1, width)
    }


def read_curve(metrics: Mapping[str, float]) -> dict[int, float]:
    """Returns what `curve_metrics` put among other metrics, by step; none of losses like NaN."""
    return {
        int(name.removeprefix(_PREFIX)): value
        for name, value in metrics.items()
        if name.startswith(_PREFIX)
    }
