"""How many replicas a version needs: Serve's own autoscaler decides, by how busy they are.

By itself Serve counts the requests that pass through its handles, of which there are none. Instead
each replica reports for how much of its time it has computed. Bounds and delays are Serve's.
"""

import time
import warnings
from collections.abc import Callable, Collection
from typing import Any

from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from serving.replicas.compute import Arrays, Compute

# What replicas report, by Serve's `record_autoscaling_stats`.
BUSY = "busy_share"

# How busy replicas are to be. A batch that comes while another one is computed waits for it, and at
# a share of 0.7 that is what most of them do.
TARGET_SHARE = 0.7

# How often a share is reported, and over how long shares are averaged.
_REPORT_S, _LOOK_BACK_S = 2.0, 10.0


class BusyTime:
    """A model that also knows for how much of the time it computes.

    Args:
        compute: The model; it is called from one thread.
        now: A clock, in seconds.
    """

    def __init__(self, compute: Compute, now: Callable[[], float] = time.monotonic) -> None:
        self._compute, self._now = compute, now
        self._busy_s = 0.0
        self._since: float | None = None
        self._asked_at, self._busy_s_then = now(), 0.0

    def __call__(self, inputs: Arrays) -> Arrays:
        """Computes a batch."""
        begun = self._since = self._now()
        try:
            return self._compute(inputs)
        finally:
            self._since = None
            self._busy_s += self._now() - begun

    def share(self) -> float:
        """Returns for how much of the time since it was last asked it has computed: 0 to 1."""
        since, busy_s, now = self._since, self._busy_s, self._now()
        if since is not None:
            busy_s += now - since
        passed_s, computed_s = now - self._asked_at, busy_s - self._busy_s_then
        self._asked_at, self._busy_s_then = now, busy_s
        # A batch may end between two of the lines above, and would count twice, or not yet.
        return min(1.0, max(0.0, computed_s / passed_s)) if passed_s > 0 else 0.0


def replicas_for(shares: Collection[float]) -> float:
    """Returns how many replicas would be as busy as they are to be; Serve rounds up.

    Args:
        shares: How busy each one is. One that is full may have much more to do than that says, so
            there is one more for every two or three at a time.
    """
    return sum(shares) / TARGET_SHARE


def by_busy_share(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Serve's policy, called in its controller."""
    reported = (context.aggregated_metrics or {}).get(BUSY)
    if not reported:  # nobody has said anything yet
        return context.target_num_replicas, {}
    return replicas_for(reported.values()), {}


def autoscaling(
    min_replicas: int, max_replicas: int, up_after_s: float, down_after_s: float
) -> AutoscalingConfig:
    """Returns what Serve is told of a deployment that is scaled."""
    with warnings.catch_warnings():
        # It is deprecated in favour of an environment variable that does nothing yet (Ray 2.60).
        warnings.filterwarnings(
            "ignore", message=".*metrics_interval_s", category=DeprecationWarning
        )
        return AutoscalingConfig(
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            metrics_interval_s=_REPORT_S,
            look_back_period_s=_LOOK_BACK_S,
            upscale_delay_s=up_after_s,
            downscale_delay_s=down_after_s,
            policy=AutoscalingPolicy(policy_function=by_busy_share),
        )
