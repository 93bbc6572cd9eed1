"""Two ranks of the benchmark on loopback: real processes and collectives, small gradients."""

import os
from collections.abc import Iterator

import pytest

from benchmarks.compression import cases
from benchmarks.compression.ranks import RankError, Ranks, start_ranks
from benchmarks.compression.sides import is_ours
from benchmarks.compression.times import measure_errors, measure_link
from benchmarks.harness.load import Grace
from benchmarks.harness.record import Row

_SHAPES = [[64], [256, 128], [128, 256]]
_BYTES = 4 * (64 + 2 * 256 * 128)
_REPEATS = 2
_SLOW_GBIT_PER_S = 0.1

# Squares of the formats' relative roundings: 2^-24, 2^-9 and 2^-12, each a few times.
_LARGEST_VNMSE = {cases.FLOAT32: 1e-13, cases.BFLOAT16: 4e-5, cases.FLOAT16: 1e-6}
# int8 in blocks of 256: steps of 1/127 of a block's largest value, uniform errors, a few roundings.
_LARGEST_VNMSE |= {cases.OURS: 1e-2, cases.OURS_WITHOUT_FEEDBACK: 1e-2, cases.OURS_FLOAT8: 1e-2}
_ERROR_STEPS = 8

# TCP on loopback has packets of both ranks in one count, and handshakes among few bytes.
_COUNT_MARGIN = 1.5


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    pid = os.getpid()
    # An address of loopback that no other test has.
    address = f"127.{1 + pid // 2**16 % 250}.{pid // 2**8 % 2**8}.{1 + pid % 250}"
    with start_ranks([[], []], [address, address], "lo", _SHAPES) as started:
        yield started


@pytest.fixture(scope="module")
def errors(ranks: Ranks) -> dict[str, Row]:
    return {row.side: row for row in measure_errors(_ERROR_STEPS, ranks, 2)}


@pytest.fixture(scope="module")
def link(ranks: Ranks, errors: dict[str, Row]) -> list[Row]:
    assert errors
    return list(measure_link(_REPEATS, Grace(0.001), ranks, 2, _SLOW_GBIT_PER_S, _BYTES))


def test_errors_are_the_formats(errors: dict[str, Row]) -> None:
    assert set(errors) == set(cases.SIDES)
    for side, largest in _LARGEST_VNMSE.items():
        row = errors[side]
        assert row.table == cases.ERROR_TABLE and row.case["bytes"] == _BYTES
        assert row.metrics["vnmse"] <= largest, side
    assert errors[cases.OURS].metrics["vnmse"] > 100 * errors[cases.FLOAT32].metrics["vnmse"]
    worse, better = (errors[cases.POWER_SGD[rank]].metrics["vnmse"] for rank in (1, 4))
    assert better < worse


def test_feedback_makes_the_mean_right(errors: dict[str, Row]) -> None:
    plain, with_feedback = errors[cases.OURS_WITHOUT_FEEDBACK], errors[cases.OURS]
    assert with_feedback.metrics["vnmse_of_mean"] < plain.metrics["vnmse_of_mean"] / 2


def test_ranks_end_with_the_same_bits(errors: dict[str, Row]) -> None:
    for side in (cases.FLOAT32, cases.OURS, cases.OURS_FLOAT8, cases.OURS_WITHOUT_FEEDBACK):
        assert errors[side].metrics["ranks_identical"] == 1.0
    assert errors[cases.NOTHING].metrics == {}


def test_every_side_is_timed(link: list[Row]) -> None:
    tcp, *times = link
    assert tcp.table == cases.LINK_TABLE and tcp.metrics["gbit_per_s"] > 0
    assert [row.side for row in times] == list(cases.SIDES)
    for row in times:
        assert row.table == cases.TIME_TABLE
        assert row.timing is not None and row.timing.samples == _REPEATS
        assert ("wire_mb" in row.metrics) == is_ours(row.side)
    ours = next(row for row in times if row.side == cases.OURS)
    assert ours.metrics["times_ours"] == 1.0


def test_our_count_is_what_was_sent(link: list[Row]) -> None:
    """Two ranks send each other half of 2 bytes and a little for 4 values of 8 bits."""
    ours = next(row for row in link if row.side == cases.OURS)
    expected_mb = _BYTES / 4 / 1e6
    assert expected_mb < ours.metrics["wire_mb"] < 1.05 * expected_mb
    both_ranks_mb = 2 * ours.metrics["wire_mb"]
    assert both_ranks_mb <= ours.metrics["sent_mb"] < _COUNT_MARGIN * both_ranks_mb


def test_a_failing_rank_is_told() -> None:
    with (
        start_ranks([[], []], ["127.0.0.1"] * 2, "no-such-interface") as started,
        pytest.raises(RankError, match=r"rank \d ended; the last it wrote:(.|\n)*no-such-interf"),
    ):
        started.ask(do="error", side=cases.FLOAT32, steps=1)
