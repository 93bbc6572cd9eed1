"""Something happens to a gateway while callers ask, and what they were told is noted."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from serving.testing.gateway_process import START_S, Gateway, wait_until
from tests.faults.callers import Counts, Question, asking

CALLERS = 16

# Before what happens, and after it: for hundreds of requests.
STEADY_S = 1.0

Record = Callable[[str, Any], None]


def during(
    gateway: Gateway,
    asked: Sequence[Question],
    fault: Callable[[], None],
    until: Callable[[], bool] = lambda: True,
    callers: int = CALLERS,
) -> Counts:
    """What callers are told while something happens, from before until it is over."""

    async def run() -> Counts:
        async with asking(gateway.grpc, asked, callers=callers) as counts:
            await asyncio.sleep(STEADY_S)
            await asyncio.to_thread(fault)
            await asyncio.to_thread(wait_until, until, START_S)
            await asyncio.sleep(STEADY_S)
        return counts

    return asyncio.run(run())


def note(record: Record, what: str, counts: Counts) -> None:
    """Has a table at the end of the log tell what callers were told, and how long it took."""
    facts = {"longest_gap_s": counts.longest_gap_s()}
    took = {"answer": [s for _, s in counts.latencies_s], "refusal": counts.refusals_s}
    for name, seconds in took.items():
        if seconds:
            p50, p99 = np.quantile(seconds, (0.5, 0.99))
            facts |= {f"{name}_p50_ms": 1e3 * p50, f"{name}_p99_ms": 1e3 * p99}
    record(
        what, {**counts.results, **{name: round(float(fact), 3) for name, fact in facts.items()}}
    )
