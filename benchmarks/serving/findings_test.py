"""What the benchmark of serving makes of rows that are known."""

import pytest

from benchmarks.harness.record import Finding, Row, Scalar
from benchmarks.harness.testing import record_of
from benchmarks.serving import cases
from benchmarks.serving.findings import findings, loads
from benchmarks.serving.report import REPORT, table_of, throughput_panels

QUIET, BUSY = 0.0, 10.0


def _row(side: str, per_s: float, p50_ms: float = 1.0, **changes: Scalar) -> Row:
    others = float(changes.pop("others", QUIET))
    table = str(changes.pop("table", cases.CLOSED_TABLE))
    case: dict[str, Scalar] = {"model": cases.MLP, "callers": 32} | changes
    if table == cases.OPEN_TABLE:
        case.pop("callers")
    metrics = {"failures": 0.0, "others_cores": others, "requests_per_s": per_s}
    metrics |= {"requests_per_s_low": per_s - 1, "requests_per_s_high": per_s + 1}
    metrics |= {"server_cpu_ms": 0.25, "client_cpu_ms": 0.125}
    metrics |= {f"p{percent}_ms": p50_ms for percent in (50, 90, 99)}
    return Row(table=table, case=case, step="infer", side=side, metrics=metrics)


def _find(rows: list[Row], words: str) -> Finding:
    (found,) = [finding for finding in findings(record_of(rows)) if words in finding.name]
    return found


def _rows(**changes: Scalar) -> list[Row]:
    return [
        _row(cases.FLOOR, 2000.0, **changes),
        _row(cases.OURS_GRPC, 1600.0, **changes),
        _row(cases.RAY_GRPC, 100.0, **changes),
        _row(cases.RAY_GRPC + cases.BATCHED, 400.0, **changes),
        _row(cases.OURS_REST, 1600.0, **changes),
        _row(cases.LITSERVE, 1500.0, **changes),
        _row(cases.LITSERVE + cases.BATCHED, 3200.0, **changes),
    ]


def test_aims_at_32_callers_are_over_the_better_of_a_peers_two() -> None:
    found = _find(_rows(), "mlp, 32 callers: ours gRPC / Ray Serve gRPC")
    assert (found.value, found.aim, found.reached) == (4.0, 5.0, False)
    found = _find(_rows(), "mlp, 32 callers: floor gRPC / ours gRPC")
    assert (found.value, found.aim, found.reached) == (1.25, 1.5, True)


def test_what_a_request_takes_is_no_aim() -> None:
    found = _find(_rows(), "mlp, 32 callers: CPU a request, ours gRPC / floor gRPC")
    assert (found.value, found.aim, found.reached) == (1.0, None, None)


def test_a_side_that_was_not_measured_is_said_so() -> None:
    found = _find(_rows(), "mlp, 32 callers: ours REST / Ray Serve HTTP")
    assert (found.value, found.cases, found.reached) == (None, 0, None)


def test_latency_of_one_caller() -> None:
    rows = [
        _row(cases.OURS_GRPC, 500.0, 2.0, callers=1),
        _row(cases.RAY_GRPC, 200.0, 5.0, callers=1),
        _row(cases.RAY_GRPC + cases.BATCHED, 125.0, 8.0, callers=1),
    ]
    found = _find(rows, "mlp, 1 callers: p50, Ray Serve gRPC / ours gRPC")
    assert (found.value, found.reached) == (2.5, True)
    rows[0] = _row(cases.OURS_GRPC, 500.0, 10.0, callers=1)
    found = _find(rows, "mlp, 1 callers: p50, Ray Serve gRPC / ours gRPC")
    assert (found.value, found.reached) == (0.5, False)


def test_ahead_everywhere_is_the_least_over_all_loads() -> None:
    rows = [
        *_rows(),
        _row(cases.OURS_REST, 100.0, callers=8),
        _row(cases.LITSERVE, 50.0, callers=8),
    ]
    found = _find(rows, "throughput, callers: least of ours REST / LitServe")
    assert (found.value, found.cases, found.reached) == (0.5, 2, False)


def test_ahead_at_fixed_rates_is_in_latency() -> None:
    rows = [
        _row(cases.OURS_REST, 100.0, 2.0, table=cases.OPEN_TABLE, rate=100.0),
        _row(cases.LITSERVE, 100.0, 3.0, table=cases.OPEN_TABLE, rate=100.0),
    ]
    found = _find(rows, "p50, fixed rates: least of LitServe HTTP / ours REST")
    assert (found.value, found.cases, found.reached) == (1.5, 1, True)


def test_what_was_measured_under_load_does_not_count() -> None:
    found = _find(_rows(others=BUSY), "mlp, 32 callers: floor gRPC / ours gRPC")
    assert (found.value, found.cases, found.reached) == (None, 0, None)


def test_table_of_a_load() -> None:
    rows = [*_rows()[:2], _row(cases.RAY_HTTP, 80.0, others=BUSY)]
    title, _, *lines = table_of(rows, record_of([]).machine)
    assert title == "mlp, 32 callers"
    cells = [line.split() for line in lines]
    assert cells[0][2:5] == ["2000", "1999..2001", "1.25"]
    assert cells[1][-5:] == ["1.00", "1.00", "1.00", "0.25", "0.12"]
    assert lines[2].startswith("Ray Serve HTTP !")


@pytest.mark.parametrize("table", [cases.CLOSED_TABLE, cases.TENSOR_TABLE])
def test_a_side_that_only_failed_has_a_line(table: str) -> None:
    row = Row(
        table=table,
        case={"model": cases.MLP, "callers": 1, "mib": 10.0},
        step="infer",
        side=cases.LITSERVE,
        metrics={"failures": 12.0, "others_cores": QUIET},
        missing="no request was answered",
    )
    *_, line = table_of([row], record_of([]).machine)
    assert line.split() == ["LitServe", "HTTP", *["-"] * 8, "12"]


def test_loads_are_told_apart_and_drawn() -> None:
    rows = [*_rows(), *_rows(callers=1), *_rows(model=cases.DIGITS)]
    rest = Row(
        table=cases.SERVER_TABLE, case={"model": cases.MLP}, step="rest", side=cases.FLOOR_SERVER
    )
    assert [len(load.rows) for load in loads([*rows, rest])] == [7, 7, 7]
    first, second = throughput_panels(rows)
    assert (first.title, second.title) == (cases.MLP, cases.DIGITS)
    assert first.lines[cases.FLOOR] == [(32.0, 2000.0), (1.0, 2000.0)]
    assert first.lines[cases.RAY_GRPC] == [(32.0, 400.0), (1.0, 400.0)]
    assert (REPORT.plot(record_of(rows)) or b"").startswith(b"\x89PNG")
