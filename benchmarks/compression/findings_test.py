"""The aims and the tables, against numbers worked out by hand."""

import pytest

from benchmarks.compression import cases
from benchmarks.compression.findings import findings
from benchmarks.compression.report import (
    REPORT,
    error_lines,
    kernel_lines,
    link_lines,
    link_noise_lines,
    link_panels,
    links,
)
from benchmarks.harness.machine import describe_machine
from benchmarks.harness.record import Finding, Row, Scalar
from benchmarks.harness.testing import record_of
from benchmarks.harness.timing import summarize

QUIET, BUSY = 0.0, 10.0

_MACHINE = describe_machine(())


def _time(side: str, seconds: float, sent_mb: float, **changes: float) -> Row:
    ours_s = 0.25
    case: dict[str, Scalar] = {
        "world_size": int(changes.get("ranks", 2)),
        "gbit_per_s": changes.get("rate", 1.0),
    }
    metrics = {
        "times_ours": seconds / ours_s,
        "sent_mb": sent_mb,
        "sent_of_float32": sent_mb / 100,
        "others_cores": changes.get("others", QUIET),
    }
    return Row(
        table=cases.TIME_TABLE,
        case=case,
        step="all-reduce",
        side=side,
        timing=summarize([seconds]),
        metrics=metrics,
    )


def _world(**changes: float) -> list[Row]:
    return [
        _time(cases.NOTHING, 0.001, 0.0, **changes),
        _time(cases.FLOAT32, 0.9, 100.0, **changes),
        _time(cases.BFLOAT16, 0.45, 50.0, **changes),
        _time(cases.POWER_SGD[1], 0.1, 0.3, **changes),
        _time(cases.OURS, 0.25, 25.5, **changes),
    ]


def _link(ranks: int, rate: float) -> Row:
    case: dict[str, Scalar] = {"world_size": ranks, "gbit_per_s": rate}
    metrics = {"gbit_per_s": 0.957, "least_gbit_per_s": 0.95}
    return Row(
        table=cases.LINK_TABLE, case=case, step="send and receive", side="tcp", metrics=metrics
    )


def _find(rows: list[Row], words: str) -> Finding:
    (found,) = [finding for finding in findings(record_of(rows)) if words in finding.name]
    return found


def test_aims_of_time() -> None:
    found = _find(_world(), "aim: 2 ranks, 1 Gbit/s: float32 time / ours")
    assert (found.value, found.aim, found.reached) == (pytest.approx(3.6), 3.3, True)
    found = _find(_world(), "aim: 2 ranks, 1 Gbit/s: least time / ours of float32, bf16")
    assert (found.value, found.reached) == (pytest.approx(1.8), True)


def test_missed_aim() -> None:
    rows = [row for row in _world() if row.side != cases.BFLOAT16] + [
        _time(cases.BFLOAT16, 0.2, 50.0)
    ]
    found = _find(rows, "least time / ours of float32")
    assert (found.value, found.reached) == (pytest.approx(0.8), False)


def test_power_sgd_is_no_aim() -> None:
    """It may be faster: it does not reach the same loss by itself."""
    found = _find(_world(), "PowerSGD")
    assert (found.value, found.aim, found.reached) == (pytest.approx(0.4), None, None)


def test_other_rates_are_no_aims() -> None:
    found = _find(_world(rate=10.0), "2 ranks, 10 Gbit/s: float32 time / ours")
    assert (found.value, found.aim, found.reached) == (pytest.approx(3.6), None, None)


def test_aims_of_bytes() -> None:
    rows = _world(ranks=4, others=BUSY)
    found = _find(rows, "4 ranks: bytes sent / float32's")
    assert (found.value, found.aim, found.reached) == (pytest.approx(0.255), 0.27, True)
    found = _find(rows, "4 ranks: bytes sent / bf16 hook's")
    assert (found.value, found.aim, found.reached) == (pytest.approx(0.51), 0.52, True)


def test_times_measured_under_load_do_not_count() -> None:
    found = _find(_world(others=BUSY), "aim: 2 ranks, 1 Gbit/s: float32 time / ours")
    assert (found.value, found.cases, found.reached) == (None, 0, None)


@pytest.mark.parametrize(("copy_ms", "reached"), [(9.0, True), (7.0, False)])
def test_aim_of_kernels(copy_ms: float, reached: bool) -> None:
    rows = [
        Row(
            table=cases.KERNEL_TABLE,
            case={"values": 25, "bytes": 125_000_000},
            step="quantize",
            side=side,
            timing=summarize([ms / 1e3]),
            metrics={"gb_per_s": 125.0 / ms, "times_ours": ms / 10.0},
        )
        for side, ms in ((cases.OURS, 10.0), (cases.COPY, copy_ms))
    ]
    found = _find(rows, "aim: kernel: quantize")
    assert (found.value, found.aim, found.reached) == (pytest.approx(copy_ms / 10), 0.8, reached)
    title, line = kernel_lines(rows)
    assert title.startswith("100 MB") and line.split() == [
        "quantize",
        "125",
        "10.0",
        "12.5",
        f"{125 / copy_ms:.1f}",
        f"{copy_ms / 10:.2f}",
    ]


def test_table_of_a_link() -> None:
    title, _, *lines = link_lines([_link(2, 1.0), *_world()], _MACHINE)
    assert title == "2 ranks, 1 Gbit/s (TCP reaches 0.96 in both directions at once)"
    cells = {line[: line.index("  ")]: line.split()[-7:] for line in lines}
    assert cells[cases.FLOAT32] == ["900", "900..900", "3.60", "100.00", "1.000", "-", "-"]
    *_, last = link_lines([_link(2, 1.0), *_world(others=BUSY)], _MACHINE)
    assert last.startswith("! others took 10.0 cores")


def test_links_are_told_apart() -> None:
    rows = [r for ranks in (2, 4) for r in (_link(ranks, 1.0), *_world(ranks=ranks))]
    rows += [_link(4, 10.0), *_world(ranks=4, rate=10.0, others=BUSY)]
    assert [len(link) for link in links(rows)] == [6, 6, 6]
    (line,) = link_noise_lines(record_of(rows))
    assert line.startswith("1 of 3 links")
    first, second = link_panels(rows)
    assert (first.title, second.title) == ("2 ranks", "4 ranks")
    assert second.lines[cases.OURS] == [(1.0, 250.0), (10.0, 250.0)]
    assert cases.NOTHING not in first.lines
    assert (REPORT.plot(record_of(rows)) or b"").startswith(b"\x89PNG")


def test_ranks_that_differ_are_shown() -> None:
    rows = [
        Row(
            table=cases.ERROR_TABLE,
            case={"world_size": 2, "bytes": 100, "steps": 10},
            step="all-reduce",
            side=side,
            metrics={"vnmse": 1e-3, "vnmse_of_mean": 1e-4, "ranks_identical": same},
        )
        for side, same in ((cases.OURS, 1.0), (cases.FLOAT32, 0.0))
    ]
    _, ours, float32 = error_lines(rows)
    assert ours.split()[-5:] == ["2", "1.00e-03", "1.00e-04", "10", "yes"]
    assert float32.split()[-1] == "NO"
