"""What a benchmark found, as a file that a program reads and as tables that people read."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from benchmarks.machine import Machine
from benchmarks.measure import Timing

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


def fenced(lines: Sequence[str]) -> str:
    """Returns the lines as a block that Markdown leaves as it is."""
    return "\n".join(["```", *lines, "```"])


def table_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Returns the cells in columns: the first flush left, the others flush right."""
    first, *rest = zip(cells, widths, strict=True)
    line = f"{first[0]:<{first[1]}}" + "".join(f"  {cell:>{width}}" for cell, width in rest)
    return line.rstrip()


def table_lines(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yields a table whose columns are as wide as their widest cell."""
    widths = [max(len(row[column]) for row in [titles, *rows]) for column in range(len(titles))]
    for cells in [titles, *rows]:
        yield table_line(cells, widths)


def finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yields the findings as a table that says of each aim whether it is reached."""
    verdicts: Mapping[bool | None, str] = {True: "reached", False: "MISSED", None: ""}
    rows = [
        (
            finding.name,
            "not measured" if finding.value is None else f"{finding.value:.2f}",
            "" if finding.aim is None else f"{finding.aim:g}",
            verdicts[finding.reached],
            str(finding.cases),
        )
        for finding in findings
    ]
    yield from table_lines(("", "found", "aim", "", "cases"), rows)
