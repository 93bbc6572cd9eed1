"""Records survive a round trip, and their tables are as wide as needed."""

import os

import pytest
from pydantic import ValidationError

from benchmarks.harness.machine import describe_machine, in_words
from benchmarks.harness.record import Finding, Record, Row, at_least, at_most, is_noisy
from benchmarks.harness.testing import record_of
from benchmarks.harness.text import finding_lines, table_lines
from benchmarks.harness.timing import summarize


def _record() -> Record:
    timed = Row(
        table="time",
        case={"dtype": "float32", "causal": True, "seq_k": 128},
        step="forward",
        side="ours",
        timing=summarize([0.1, 0.2]),
        metrics={"gflop_per_s": 3.5},
    )
    missing = Row(table="time", case={}, step="forward", side="peer", missing="not installed")
    finding = Finding(name="ratio", value=2.5, cases=1, aim=2.0, reached=True)
    record = record_of([timed, missing], device="cpu", budget_s=0.5, patient=False)
    return record.model_copy(update={"findings": (finding,)})


def test_round_trip() -> None:
    record = _record()
    assert Record.model_validate_json(record.model_dump_json()) == record


def test_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError):
        Row.model_validate({"table": "time", "case": {}, "step": "", "side": "", "color": "red"})


def test_machine_is_described() -> None:
    machine = describe_machine(("numpy", "pydantic"))
    assert machine.cores == len(os.sched_getaffinity(0))
    assert set(machine.versions) == {"python", "numpy", "pydantic"}
    assert machine.cpu and machine.memory_gib > 0
    assert f"{machine.cores} cores of {machine.cpu}" in in_words(machine)


def test_table_columns_fit() -> None:
    assert list(table_lines(("", "found"), [("long name", "1"), ("b", "22.5")])) == [
        "           found",
        "long name      1",
        "b           22.5",
    ]


def test_findings_say_what_is_reached() -> None:
    reached = Finding(name="a", value=2.0, cases=3, aim=2.0, reached=True)
    missed = Finding(name="b", value=1.0, cases=3, aim=2.0, reached=False)
    unknown = Finding(name="c", value=None, cases=0, aim=2.0)
    lines = list(finding_lines([reached, missed, unknown]))
    assert "reached" in lines[1] and "2.00" in lines[1]
    assert "MISSED" in lines[2] and "1.00" in lines[2]
    assert "not measured" in lines[3] and "MISSED" not in lines[3]


def test_an_aim_is_reached_from_its_side() -> None:
    assert [at_least("a", value, 1, 2.0).reached for value in (1.9, 2.0, None)] == [
        False,
        True,
        None,
    ]
    assert [at_most("a", value, 1, 2.0).reached for value in (2.0, 2.1, None)] == [
        True,
        False,
        None,
    ]
    assert at_least("a", 1.0, 1).reached is None


def test_noise_is_of_the_machine_that_measured() -> None:
    two = describe_machine(()).model_copy(update={"cores": 2})
    many = two.model_copy(update={"cores": 200})
    row = Row(table="time", case={}, step="", side="", metrics={"others_cores": 1.0})
    assert is_noisy(row, two) and not is_noisy(row, many)
    assert not is_noisy(row.model_copy(update={"metrics": {}}), two)
