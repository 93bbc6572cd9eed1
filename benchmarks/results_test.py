"""The recorded pages are what the suites make of the recorded rows, to the byte."""

from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.harness.record import Finding, Record
from benchmarks.harness.suite import Report
from benchmarks.main import SUITES

_RECORDS = sorted(Path("benchmarks/results").glob("*.json"))

# Sums over the rows may differ in their last bits where another CPU adds in another order.
_ROUNDING = 1e-9


@pytest.fixture(params=_RECORDS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture
def record(path: Path) -> Record:
    return Record.model_validate_json(path.read_text())


@pytest.fixture
def report(record: Record) -> Report:
    found: Report = import_module(f"benchmarks.{record.benchmark}.report").REPORT
    return found


def test_every_suite_has_a_record() -> None:
    recorded = {Record.model_validate_json(path.read_text()).benchmark for path in _RECORDS}
    assert recorded == set(SUITES)


def test_page(path: Path, record: Record, report: Report) -> None:
    picture = path.with_suffix(".png")
    name = picture.name if picture.exists() else None
    assert report.page(record, name) == path.with_suffix(".md").read_text()


def test_findings(record: Record, report: Report) -> None:
    found = list(report.findings(record.model_copy(update={"findings": ()})))
    assert [_rounded(finding) for finding in found] == list(map(_rounded, record.findings))


def _rounded(finding: Finding) -> dict[str, object]:
    known = None if finding.value is None else pytest.approx(finding.value, rel=_ROUNDING)
    return finding.model_dump() | {"value": known}
