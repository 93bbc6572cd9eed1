"""Measures the sides of the compression benchmark: errors, links, and times over each link."""

import statistics
import time
from collections.abc import Iterator, Sequence

from benchmarks.compression import cases
from benchmarks.compression.cases import Preset
from benchmarks.compression.network import (
    INTERFACE,
    Plan,
    enter_command,
    network,
    plan_network,
    run,
    shape_commands,
)
from benchmarks.compression.ranks import Answer, Ranks, start_ranks
from benchmarks.harness.load import Grace, OtherLoad
from benchmarks.harness.record import Row, Scalar
from benchmarks.harness.timing import Timing, summarize
from comm.wire import all_reduce_bytes

# Long enough for what is still on its way to be accounted, and for the system's clock to tick.
_LOOK_S = 0.1


def measure_world(preset: Preset, grace: Grace, world_size: int, pid: int) -> Iterator[Row]:
    """Measures everything with so many ranks, in namespaces that are gone in the end.

    Raises:
      NetworkError: namespaces or links cannot be made.
      RankError: a rank failed.
    """
    plan = plan_network(world_size, pid)
    enter = [enter_command(name) for name in plan.namespaces[:world_size]]
    with network(plan), start_ranks(enter, plan.addresses, INTERFACE) as ranks:
        num_bytes = 0
        for row in measure_errors(preset.error_steps, ranks, world_size):
            num_bytes = int(row.case["bytes"])
            yield row
        for rate in preset.rates:
            _shape(plan, rate)
            yield from measure_link(preset.repeats, grace, ranks, world_size, rate, num_bytes)


def measure_errors(num_steps: int, ranks: Ranks, world_size: int) -> Iterator[Row]:
    """Measures how far the averages of each side are from the true ones; makes the sides."""
    for side in cases.SIDES:
        answers = ranks.ask(do="error", side=side, steps=num_steps)
        row = Row(
            table=cases.ERROR_TABLE,
            case={
                "world_size": world_size,
                "bytes": answers[0]["num_bytes"],
                "steps": num_steps,
            },
            step="all-reduce",
            side=side,
        )
        same = len({answer["digest"] for answer in answers}) == 1
        metrics = {
            "vnmse": answers[0]["vnmse"],
            "vnmse_of_mean": answers[0]["vnmse_of_mean"],
            "ranks_identical": float(same),
        }
        yield row if side == cases.NOTHING else row.model_copy(update={"metrics": metrics})


def measure_link(
    repeats: int, grace: Grace, ranks: Ranks, world_size: int, rate: float, num_bytes: int
) -> Iterator[Row]:
    """Measures a link, then times all sides over it in turns, each turn from another side on."""
    case: dict[str, Scalar] = {
        "world_size": world_size,
        "gbit_per_s": rate,
        "bytes": num_bytes,
    }
    speeds = [answer["gbit_per_s"] for answer in ranks.ask(do="link", gbit_per_s=rate)]
    yield Row(
        table=cases.LINK_TABLE,
        case=case,
        step="send and receive",
        side="tcp",
        metrics={"gbit_per_s": statistics.fmean(speeds), "least_gbit_per_s": min(speeds)},
    )
    steps: dict[str, list[Answer]] = {side: [] for side in cases.SIDES}
    others_cores = []
    for repeat in range(repeats):
        grace.wait()
        start = repeat % len(cases.SIDES)
        for side in (*cases.SIDES[start:], *cases.SIDES[:start]):
            steps[side].append(_together(ranks.ask(do="time", side=side)))
        load = OtherLoad()
        time.sleep(_LOOK_S)
        others_cores.append(load.cores())
    yield from _time_rows(case, steps, statistics.fmean(others_cores))


def _together(answers: Sequence[Answer]) -> Answer:
    """A step takes as long as its slowest rank; of bytes the mean over the ranks counts."""
    together = {"seconds": max(answer["seconds"] for answer in answers)}
    for name in ("sent_bytes", "wire_bytes"):
        if name in answers[0]:
            together[name] = statistics.fmean(answer[name] for answer in answers)
    return together


def _time_rows(
    case: dict[str, Scalar], steps: dict[str, list[Answer]], others_cores: float
) -> Iterator[Row]:
    timings = {
        side: summarize([answer["seconds"] for answer in answers])
        for side, answers in steps.items()
    }
    sent = {
        side: statistics.median(answer["sent_bytes"] for answer in answers)
        for side, answers in steps.items()
    }
    useful_bits = 8 * all_reduce_bytes(float(case["bytes"]), int(case["world_size"]))
    for side, timing in timings.items():
        metrics = _ratios(timings, sent, side) | {
            "sent_mb": sent[side] / 1e6,
            "others_cores": others_cores,
        }
        if side != cases.NOTHING:
            metrics["effective_gbit_per_s"] = useful_bits / timing.median_ms / 1e6
        wire = [answer["wire_bytes"] for answer in steps[side] if "wire_bytes" in answer]
        if wire:
            metrics["wire_mb"] = statistics.median(wire) / 1e6
        yield Row(
            table=cases.TIME_TABLE,
            case=case,
            step="all-reduce",
            side=side,
            timing=timing,
            metrics=metrics,
        )


def _ratios(timings: dict[str, Timing], sent: dict[str, float], side: str) -> dict[str, float]:
    """Times and bytes over those of the two sides that others are compared with."""
    ratios = {}
    if cases.FLOAT32 in timings:
        ratios["sent_of_float32"] = sent[side] / sent[cases.FLOAT32]
    if cases.OURS in timings:
        ratios["times_ours"] = timings[side].median_ms / timings[cases.OURS].median_ms
    return ratios


def _shape(plan: Plan, rate: float) -> None:
    for command in shape_commands(plan, rate):
        run(command)
