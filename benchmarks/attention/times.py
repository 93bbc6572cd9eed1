"""Times the sides of the attention benchmark in turns, beside a ceiling, once they agree."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.attention import jax_sides, torch_sides
from benchmarks.attention.cases import CEILING_TABLE, TIME_TABLE, Case, make_inputs, operations
from benchmarks.attention.peaks import check_memory
from benchmarks.attention.sides import Side, UnavailableError, is_ours, reason
from benchmarks.harness.load import Grace, OtherLoad, quiet_cores
from benchmarks.harness.record import Row
from benchmarks.harness.timing import SLOW_S, Step, Timing, measure_in_turns, run_once, second_run_s

# The edge of the square matrices whose product is the ceiling.
MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}

# How far a side may be from the first peer, relative to the greatest value: a few roundings of the
# dtype, on CUDA with float32 products of reduced precision. Beyond, the sides compute different
# things, and to compare their times would mean nothing.
AGREEMENT = {"float32": 1e-2, "bfloat16": 5e-2, "float16": 2e-2}

# A peer that holds all scores, would take this long and so many times what ours takes is left out
# where patience has an end: the shorter lengths tell its ratio.
_LONG_S = 0.5
_FAR_BEHIND = 6.0


class Settings(NamedTuple):
    """How to measure.

    Attributes:
      device: "cpu" or "cuda".
      budget_s: time for one pass of one case, all sides together; slow sides exceed it.
      patient: measure peers even where they are far behind.
      grace: for a quiet machine.
    """

    device: str
    budget_s: float
    patient: bool
    grace: Grace


class Forecast:
    """Guesses how long a side takes from what it took at a shorter length."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[int, float]] = {}

    def learn(self, case: Case, direction: str, side: str, seconds: float) -> None:
        """Takes note of one measurement."""
        self._known[self._key(case, direction, side)] = (case.sizes.seq_k, seconds)

    def seconds(self, case: Case, direction: str, side: str) -> float:
        """Returns the guess, quadratic in the length; 0 if there is nothing to go by."""
        length, seconds = self._known.get(self._key(case, direction, side), (1, 0.0))
        return seconds * (case.sizes.seq_k / length) ** 2

    @staticmethod
    def _key(case: Case, direction: str, side: str) -> tuple[object, ...]:
        return case.feature, case.dtype, case.causal, case.sizes.head_dim, direction, side


def measure_ceilings(settings: Settings, dtypes: Sequence[str]) -> Iterator[Row]:
    """Times a square matrix product in each framework."""
    size = MATMUL_SIZE[settings.device]
    for dtype in dtypes:
        settings.grace.wait()
        load = OtherLoad()
        steps = {
            "torch": torch_sides.matmul_step(settings.device, dtype, size),
            "xla": jax_sides.matmul_step(settings.device, dtype, size),
        }
        first_s = {name: second_run_s(step) for name, step in steps.items()}
        timings, _ = _measure_quietly(settings, steps, first_s, load)
        for name, timing in timings.items():
            # The fastest: a ceiling is what can be reached.
            speed = 2.0 * size**3 / timing.least_ms / 1e6
            yield Row(
                table=CEILING_TABLE,
                case={"dtype": dtype, "size": size},
                step="matmul",
                side=name,
                timing=timing,
                metrics={"gflop_per_s": speed},
            )


def ceilings(rows: Sequence[Row]) -> dict[str, float]:
    """Returns the faster framework's GFLOP/s of each dtype, from the rows of `measure_ceilings`."""
    found: dict[str, float] = {}
    for row in rows:
        dtype = str(row.case["dtype"])
        found[dtype] = max(found.get(dtype, 0.0), row.metrics["gflop_per_s"])
    return found


def measure_time(
    settings: Settings,
    sides: Mapping[str, Side],
    case: Case,
    direction: str,
    ceiling: float | None,
    forecast: Forecast,
) -> list[Row]:
    """Times one pass of one case on every side, in turns."""
    settings.grace.wait()
    load = OtherLoad()
    steps: dict[str, Step] = {}
    first_s: dict[str, float] = {}
    results: dict[str, list[np.ndarray]] = {}
    missing: dict[str, str] = {}
    inputs = make_inputs(case)
    for name, side in sides.items():
        try:
            check_memory(settings.device, side, case)
            if not settings.patient:
                _check_patience(forecast, case, direction, name, side)
            step = side.prepare(case, inputs, direction)
            result, first_s[name] = run_once(step)
        except Exception as error:
            missing[name] = reason(error)
        else:
            steps[name], results[name] = step, step.arrays(result)
    disagreement = compare(results)
    results.clear()
    for name, value in disagreement.items():
        if not value <= AGREEMENT[case.dtype]:
            missing[name] = f"its result is off by {value:.1e} of the greatest value"
            del steps[name]
    timings, others_cores = _measure_quietly(settings, steps, first_s, load)
    shared = {"others_cores": others_cores} if settings.device == "cpu" else {}
    rows = []
    for name, side in sides.items():
        row = Row(table=TIME_TABLE, case=case.describe(), step=direction, side=name)
        if name in missing:
            update: dict[str, object] = {"missing": missing[name]}
        else:
            timing = timings[name]
            forecast.learn(case, direction, name, timing.least_ms / 1e3)
            metrics = _metrics(case, direction, timing, timings.get(side.ours), ceiling) | shared
            if name in disagreement:
                metrics["disagreement"] = disagreement[name]
            update = {"timing": timing, "metrics": metrics}
        rows.append(row.model_copy(update=update))
    return rows


def compare(results: Mapping[str, Sequence[np.ndarray]]) -> dict[str, float]:
    """Returns how far each side is from the first peer, relative to the peer's greatest value."""
    peers = [name for name in results if not is_ours(name)]
    if not peers:
        return {}
    reference = results[peers[0]]
    return {
        name: max(
            float(np.max(np.abs(got - expected)) / np.max(np.abs(expected)))
            for got, expected in zip(arrays, reference, strict=True)
        )
        for name, arrays in results.items()
        if name != peers[0]
    }


def _measure_quietly(
    settings: Settings, steps: Mapping[str, Step], first_s: Mapping[str, float], load: OtherLoad
) -> tuple[dict[str, Timing], float]:
    """Times the steps, and again if others were busy meanwhile and there is time left for it.

    Returns:
      The timings of the quieter time, and how many cores others took during it: the first time,
      since `load` was made, before the first runs.
    """
    if settings.device == "cuda":
        return measure_in_turns(steps, first_s, budget_s=settings.budget_s, queued=True), 0.0
    start = time.monotonic()
    timings, cores = measure_in_turns(steps, first_s, budget_s=settings.budget_s), load.cores()
    # First runs that count would count again.
    can_repeat = max(first_s.values(), default=0.0) < SLOW_S
    while can_repeat and cores > quiet_cores() and settings.grace.spend(time.monotonic() - start):
        settings.grace.wait()
        start, load = time.monotonic(), OtherLoad()
        repeated = measure_in_turns(steps, first_s, budget_s=settings.budget_s)
        if load.cores() < cores:
            timings, cores = repeated, load.cores()
    return timings, cores


def _metrics(
    case: Case, direction: str, timing: Timing, ours: Timing | None, ceiling: float | None
) -> dict[str, float]:
    speed = operations(case, direction) / timing.median_ms / 1e6
    metrics = {"gflop_per_s": speed}
    if ceiling is not None:
        metrics["fraction_of_ceiling"] = speed / ceiling
    if ours is not None and ours is not timing:
        metrics["times_ours"] = timing.median_ms / ours.median_ms
    return metrics


def _check_patience(forecast: Forecast, case: Case, direction: str, name: str, side: Side) -> None:
    expected = forecast.seconds(case, direction, name)
    ours = forecast.seconds(case, direction, side.ours)
    if side.score_arrays and expected > max(_LONG_S, _FAR_BEHIND * ours):
        raise UnavailableError(f"would take {expected:.1f} s a run; --full measures it")
