"""Times several ways of doing one thing side by side, so that a busy machine slows all alike.

The sides take turns in one process. A turn begins with untimed runs: the threads of the side
before it (OpenMP's, XLA's, our own pool's) spin for a while before they sleep, and its own have to
wake up. After a few milliseconds of that, a process of its own makes no difference.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

# How long a turn of short runs goes untimed.
LEAD_IN_S = 0.005
# A turn times runs for this long, or one run; of very short ones so many.
TURN_S = 0.02
MAX_SAMPLES_A_TURN = 100
# A first run that took longer than this counts as a sample: what first runs pay for (pages, caches,
# threads) is nothing beside it.
SLOW_S = 2.0
MIN_SAMPLES = 3
# One sample is enough of a run that takes this long.
LONG_S = 0.5
# Where runs are queued (CUDA), one sample is as many runs as take about this long.
QUEUED_SAMPLE_S = 0.005


class Step(NamedTuple):
    """One way of doing the thing.

    Attributes:
      run: does it, or queues it, and returns its result.
      wait: returns when the result is there; needed where `run` queues.
      arrays: the result as numpy arrays, in the one layout in which all sides can be compared.
    """

    run: Callable[[], Any]
    wait: Callable[[Any], object] = lambda result: None
    arrays: Callable[[Any], list[np.ndarray]] = lambda result: []


class Timing(BaseModel):
    """What was measured of one step: the least, and the quartiles over the samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    median_ms: float
    least_ms: float
    low_ms: float
    high_ms: float
    samples: int


def run_once(step: Step) -> tuple[Any, float]:
    """Runs a step to its end; returns its result and the time that it took, in seconds."""
    start = time.perf_counter()
    result = step.run()
    step.wait(result)
    return result, time.perf_counter() - start


def second_run_s(step: Step) -> float:
    """Runs a step twice; returns what the second took, which compiles and loads nothing."""
    run_once(step)
    return run_once(step)[1]


def measure_in_turns(
    steps: Mapping[str, Step],
    first_s: Mapping[str, float],
    *,
    budget_s: float,
    queued: bool = False,
) -> dict[str, Timing]:
    """Times the steps in turns until each has had its share of the budget.

    Args:
      steps: by name, each of which has run before.
      first_s: how long each took then, in seconds.
      budget_s: time for all of them. Exceeded where a step has too few samples otherwise.
      queued: runs may be queued one behind the other, and are timed several at once.
    """
    share_s = budget_s / max(len(steps), 1)
    samples = {name: [t for t in [first_s[name]] if t >= SLOW_S] for name in steps}
    spent_s = {name: sum(times) for name, times in samples.items()}

    def wants_more(name: str) -> bool:
        enough = 1 if first_s[name] >= LONG_S else MIN_SAMPLES
        return len(samples[name]) < enough or spent_s[name] + first_s[name] <= share_s

    while turns := [name for name in steps if wants_more(name)]:
        for name in turns:
            start = time.perf_counter()
            samples[name] += _turn(steps[name], first_s[name], queued)
            spent_s[name] += time.perf_counter() - start
    return {name: summarize(times) for name, times in samples.items()}


def summarize(seconds: list[float]) -> Timing:
    """Returns the quartiles of at least one sample."""
    low, median, high = (
        statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
    )
    return Timing(
        median_ms=1e3 * median,
        least_ms=1e3 * min(seconds),
        low_ms=1e3 * low,
        high_ms=1e3 * high,
        samples=len(seconds),
    )


def _turn(step: Step, first_s: float, queued: bool) -> list[float]:
    start = time.perf_counter()
    typical_s = first_s
    while typical_s < TURN_S and time.perf_counter() - start < LEAD_IN_S:
        _, typical_s = run_once(step)
    runs = max(1, math.ceil(QUEUED_SAMPLE_S / max(typical_s, 1e-6))) if queued else 1
    times: list[float] = []
    start = time.perf_counter()
    while not times or (time.perf_counter() - start < TURN_S and len(times) < MAX_SAMPLES_A_TURN):
        begin = time.perf_counter()
        for _ in range(runs):
            result = step.run()
        step.wait(result)
        times.append((time.perf_counter() - begin) / runs)
    return times
