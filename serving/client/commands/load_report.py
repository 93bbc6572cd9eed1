"""What `load` reports: one row, and one object of JSON, a load."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Group
from rich.text import Text

from base.provenance import host, library_versions, source_state
from base.text import printable
from registry.commands.output import table
from serving.client.load import LoadResult, Status

PERCENTS = (50.0, 90.0, 99.0, 99.9)


class Run(NamedTuple):
    """One load: "concurrency" or "rate" and its value, and what callers saw."""

    kind: str
    amount: float
    result: LoadResult


def report_of(
    options: Mapping[str, Any], requests: Sequence[bytes], runs: Sequence[Run]
) -> dict[str, Any]:
    """All that was asked for and seen, and on what machine, as JSON has it."""
    return {
        "options": dict(options),
        "request_bytes": len(requests[0]),
        "distinct_requests": len(requests),
        "machine": host("cpu"),
        "source": source_state()._asdict(),
        "versions": library_versions(["grpcio", "numpy", "protobuf"]),
        "loads": [{run.kind: run.amount, **_facts(run.result)} for run in runs],
    }


def _facts(result: LoadResult) -> dict[str, Any]:
    """A result as JSON has it."""
    percentiles_s = result.latency.percentiles_s(PERCENTS)
    latency_s = dict(zip(map(_percent_name, PERCENTS), percentiles_s, strict=True))
    latency_s |= {"max": result.latency.max_s, "mean": result.latency.mean_s}
    facts = {
        "elapsed_s": result.elapsed_s,
        "answered_per_s": result.answered_per_s,
        "statuses": {status.value: result.statuses[status] for status in Status},
        "messages": {status.value: text for status, text in result.messages.items()},
        "latency_s": latency_s if result.latency.count else None,
    }
    if result.lag.count:
        p50_s, p99_s = result.lag.percentiles_s([50, 99])
        facts["lag_s"] = {"p50": p50_s, "p99": p99_s, "max": result.lag.max_s}
    return facts


def _percent_name(percent: float) -> str:
    return f"p{percent:g}"


def _load_name(run: Run) -> str:
    if run.kind != "concurrency":
        return f"{run.amount:g}/s"
    return "1 caller" if run.amount == 1 else f"{run.amount:g} callers"


def drawn_runs(runs: Sequence[Run]) -> Group:
    """A table for people, and below it the first words of each failure."""
    columns = ["load", "answers/s", *(f"{_percent_name(p)} ms" for p in PERCENTS), "max ms"]
    columns += [*(status.value for status in Status), "lag p99 ms"]
    rows, notes = [], []
    for run in runs:
        result = run.result
        load_name = _load_name(run)
        lag_s = result.lag.percentiles_s([99])[0]
        rows.append(
            [
                load_name,
                f"{result.answered_per_s:.1f}",
                *(f"{value_s * 1e3:.2f}" for value_s in result.latency.percentiles_s(PERCENTS)),
                f"{result.latency.max_s * 1e3:.2f}",
                *(str(result.statuses[status]) for status in Status),
                f"{lag_s * 1e3:.2f}" if result.lag.count else "",
            ]
        )
        notes += [
            Text(printable(f"{load_name}, {status.value}: {text}"))
            for status, text in result.messages.items()
        ]
    return Group(table(columns, rows), *notes)
