"""Measures as the options of `//benchmarks:serving` say, printing as it goes."""

import asyncio
import statistics
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.harness.load import Grace
from benchmarks.harness.machine import Machine
from benchmarks.harness.record import Row, Scalar
from benchmarks.harness.suite import Measurement
from benchmarks.serving.cases import (
    CLOSED_TABLE,
    MIB,
    OPEN_TABLE,
    OUR_CACHING_SERVER,
    SERVER_TABLE,
    TENSOR_TABLE,
    Preset,
)
from benchmarks.serving.report import HOW_TO_READ, REPORT, table_of
from benchmarks.serving.served import serve_as, small_model, tensor_model
from benchmarks.serving.sides import peer_versions
from benchmarks.serving.stage import Load, Stage, Turn, stage
from models.architecture import Model
from serving.client.load import precise_loop, run_closed, run_open

# Examples that are asked about in turn. Of large ones fewer, which have to be in memory for each
# side.
_NUM_EXAMPLES, _NUM_TENSORS = 64, 2

# Everything is asked for this long before anything is timed, by so many.
_WARM_S, _WARM_CALLERS = 0.5, 32

# Of a fixed rate: how long answers are waited for after the last request, and how many may be
# awaited at once, each of which can need a connection.
_GRACE_S, _MAX_IN_FLIGHT = 10.0, 500

_PERCENTS = (50, 90, 99)

# The table of a load, what is varied in it, and the value.
Case = tuple[str, str, float]


def prepare(preset: Preset, servers: Sequence[str], grace_s: float) -> Measurement:
    """Returns what to measure.

    Args:
        preset: What the options ask for.
        servers: Which of `SERVERS` are compared.
        grace_s: Time to wait for a quiet machine, in all.
    """
    return Measurement(
        results_name="serving",
        distributions=("ray", "grpcio", "torch", "uvloop", "numpy"),
        settings={"rounds": preset.rounds, "seconds": preset.seconds, **peer_versions()},
        rows=partial(_rows, preset, servers, Grace(grace_s)),
        report=REPORT,
    )


def _rows(preset: Preset, servers: Sequence[str], grace: Grace, machine: Machine) -> Iterator[Row]:
    print(HOW_TO_READ)
    measure = partial(_measure, preset, servers, grace, machine)
    with (
        TemporaryDirectory(prefix="serving-") as directory,
        asyncio.Runner(loop_factory=precise_loop) as runner,
    ):
        for name in preset.models:
            cases: list[Case] = [(CLOSED_TABLE, "callers", n) for n in preset.callers]
            if name == preset.models[0]:
                cases += [(OPEN_TABLE, "rate", rate) for rate in preset.rates]
            yield from runner.run(measure(name, small_model(name), cases, Path(directory)))
        for mib in preset.tensors_mib:
            cases = [(TENSOR_TABLE, "callers", n) for n in preset.tensor_callers]
            name = f"sum-{mib}mib"
            yield from runner.run(measure(name, tensor_model(mib), cases, Path(directory)))


async def _measure(
    preset: Preset,
    servers: Sequence[str],
    grace: Grace,
    machine: Machine,
    name: str,
    model: Model,
    cases: Sequence[Case],
    directory: Path,
) -> list[Row]:
    """Returns the rows of one model, and prints each load's when it is done."""
    served = serve_as(name, model, directory / name)
    shape = model.signature.input.shape
    number = _NUM_TENSORS if cases[0][0] == TENSOR_TABLE else _NUM_EXAMPLES
    examples = np.random.default_rng(1).random((number, *shape), dtype=np.float32)
    rows: list[Row] = []
    # Of large tensors the cache is not asked.
    started = [one for one in servers if one != OUR_CACHING_SERVER or number == _NUM_EXAMPLES]
    async with stage(served, started, examples, directory) as on_stage:
        for side in on_stage.sides:
            await on_stage.take_turn(side, _closed(_WARM_CALLERS, _WARM_S))
        for table, what, value in cases:
            load = (_open if table == OPEN_TABLE else _closed)(value, preset.seconds)
            turns = await _take_turns(on_stage, load, preset.rounds, grace)
            case: dict[str, Scalar] = {"model": name, what: value}
            if table == TENSOR_TABLE:
                case["mib"] = examples[0].nbytes / MIB
            new = [_row(table, case, side, of_side) for side, of_side in turns.items()]
            print("", *table_of(new, machine), sep="\n", flush=True)
            rows += new
        if cases[0][0] != TENSOR_TABLE:
            rows += await _rest(on_stage, name)
    return rows


def _closed(callers: float, seconds: float) -> Load:
    return lambda ask: run_closed(ask, int(callers), seconds)


def _open(rate: float, seconds: float) -> Load:
    return lambda ask: run_open(ask, rate, seconds, grace_s=_GRACE_S, max_in_flight=_MAX_IN_FLIGHT)


async def _take_turns(
    on_stage: Stage, load: Load, rounds: int, grace: Grace
) -> dict[str, list[Turn]]:
    """Has every side take its turn in each round, each round beginning with another one."""
    turns: dict[str, list[Turn]] = {side: [] for side in on_stage.sides}
    for number in range(rounds):
        grace.wait()
        first = number % len(turns)
        for side in [*on_stage.sides[first:], *on_stage.sides[:first]]:
            turns[side].append(await on_stage.take_turn(side, load))
    return turns


async def _rest(on_stage: Stage, model: str) -> list[Row]:
    return [
        Row(
            table=SERVER_TABLE,
            case={"model": model},
            step="rest",
            side=name,
            metrics={
                "ready_s": rest.ready_s,
                "idle_cores": rest.cores,
                "resident_mib": rest.resident_bytes / MIB,
            },
        )
        for name, rest in (await on_stage.rest()).items()
    ]


def _row(table: str, case: dict[str, Scalar], side: str, turns: Sequence[Turn]) -> Row:
    results = [turn.result for turn in turns if turn.result.latency.count]
    answered = sum(result.latency.count for result in results)
    asked = sum(turn.result.statuses.total() for turn in turns)
    metrics = {
        "failures": float(asked - answered),
        "others_cores": statistics.median(turn.others_cores for turn in turns),
    }
    if not results:
        words = "; ".join(turns[0].result.messages.values())
        missing = f"no request was answered: {words}"
        return Row(
            table=table, case=case, step="infer", side=side, metrics=metrics, missing=missing
        )
    metrics |= _spread("requests_per_s", [result.answered_per_s for result in results])
    percentiles = [result.latency.percentiles_s(_PERCENTS) for result in results]
    for percent, of_turns in zip(_PERCENTS, zip(*percentiles, strict=True), strict=True):
        metrics |= _spread(f"p{percent}_ms", [1e3 * seconds for seconds in of_turns])
    metrics |= {
        "server_cpu_ms": 1e3 * sum(turn.server_cpu_s for turn in turns) / answered,
        "client_cpu_ms": 1e3 * sum(turn.client_cpu_s for turn in turns) / answered,
    }
    return Row(table=table, case=case, step="infer", side=side, metrics=metrics)


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """The median under a metric's name, and the quartiles beside it."""
    low, median, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    )
    return {f"{name}_low": low, name: median, f"{name}_high": high}
