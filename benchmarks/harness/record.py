"""What a benchmark found, as a program reads it."""

import math
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from benchmarks.harness.load import quiet_cores
from benchmarks.harness.machine import Machine
from benchmarks.harness.timing import Timing

# Raised whenever a reader of the JSON would have to change.
SCHEMA_VERSION = 1

Scalar = str | bool | int | float


class Row(BaseModel):
    """One side's result for one case.

    Attributes:
      table: which of the benchmark's tables the row belongs to.
      case: what was done, by the benchmark's own names.
      step: which part of it, such as `forward`.
      side: who did it.
      timing: how long it took, if that was measured.
      metrics: what else was measured or follows, units in the names.
      missing: why there is no result; None where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    case: dict[str, Scalar]
    step: str
    side: str
    timing: Timing | None = None
    metrics: dict[str, float] = {}
    missing: str | None = None


class Finding(BaseModel):
    """One number that sums up many rows.

    Attributes:
      name: what it is.
      value: the number; None if no row has what it needs.
      cases: how many rows it comes from.
      aim: what it should be; None if it is for information.
      reached: whether it is; None without an aim or a value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: float | None
    cases: int
    aim: float | None = None
    reached: bool | None = None


class Record(BaseModel):
    """A whole run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    benchmark: str
    command: str
    machine: Machine
    settings: dict[str, Scalar]
    duration_s: float
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]


def is_noisy(row: Row, machine: Machine) -> bool:
    """Whether others were busy on the machine while this was timed."""
    return row.metrics.get("others_cores", 0.0) > quiet_cores(machine.cores)


def at_least(name: str, value: float | None, cases: int, aim: float | None = None) -> Finding:
    """Returns a finding whose aim, if it has one, is reached by `aim` or more."""
    reached = None if value is None or aim is None else value >= aim
    return Finding(name=name, value=value, cases=cases, aim=aim, reached=reached)


def at_most(name: str, value: float | None, cases: int, aim: float) -> Finding:
    """Returns a finding whose aim is reached by `aim` or less."""
    reached = None if value is None else value <= aim
    return Finding(name=name, value=value, cases=cases, aim=aim, reached=reached)


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Leaves out what JSON cannot hold, such as the losses of training that diverged."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
