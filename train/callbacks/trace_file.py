"""How long a trace has a processor at work, on what; of traces in Chrome's format."""

import gzip
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

# Collectives, as c10d, gloo, NCCL, JAX and XLA call them.
_COMMUNICATION = re.compile(
    r"c10d::|gloo:|nccl|psum|pmean|ppermute|all[-_](reduce|gather|to[-_]all)|"
    r"reduce[-_]scatter|collective|rendezvous",
    re.IGNORECASE,
)

# Categories of torch's events: what GPUs do, and else what the CPU does.
_ON_GPU = {"kernel", "gpu_memcpy", "gpu_memset"}
_ON_CPU = {"cpu_op", "user_annotation"}


class Busy(NamedTuple):
    """Seconds in which at least one processor was at work.

    Attributes:
        compute_s: On computing.
        communication_s: On nothing but collectives, or waiting in them.
    """

    compute_s: float
    communication_s: float


def read_trace(directory: Path) -> list[dict[str, Any]]:
    """Returns the events of the trace in a directory.

    Raises:
        OSError: There is none.
    """
    for path in directory.rglob("perfetto_trace.json.gz"):
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
        break
    else:
        events = json.loads((directory / "trace.json").read_text())["traceEvents"]
    return [event for event in events if event.get("ph") == "X"]


def busy(events: Iterable[dict[str, Any]]) -> Busy:
    """Returns how long processors were at work in a trace, those of GPUs where there are any."""
    operations = [event for event in events if _is_operation(event)]
    if on_gpu := [event for event in operations if event.get("cat") in _ON_GPU]:
        operations = on_gpu
    compute = [_span(event) for event in operations if not _COMMUNICATION.search(event["name"])]
    computing_us = _covered_us(compute)
    working_us = _covered_us([_span(event) for event in operations])
    return Busy(computing_us / 1e6, (working_us - computing_us) / 1e6)


def _is_operation(event: dict[str, Any]) -> bool:
    """XLA's have the name of one in their arguments."""
    is_torch = event.get("cat") in _ON_GPU | _ON_CPU
    return is_torch or "hlo_op" in (event.get("args") or {})


def _span(event: dict[str, Any]) -> tuple[float, float]:
    return event["ts"], event["ts"] + event.get("dur", 0.0)


def _covered_us(spans: Iterable[tuple[float, float]]) -> float:
    """Returns the length of the union of spans."""
    total, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total
