"""The summary's arithmetic, against numbers worked out by hand."""

import math

import pytest

from benchmarks.attention.findings import findings, geometric_mean
from benchmarks.harness.record import Finding, Row
from benchmarks.harness.testing import record_of
from benchmarks.harness.timing import summarize

QUIET, BUSY = 0.0, 10.0


def _row(side: str, step: str, metrics: dict[str, float], **case: str | int | bool) -> Row:
    plain = {"feature": "plain", "dtype": "float32", "causal": False, "seq_k": 2048}
    return Row(
        table="time",
        case=plain | {"head_dim": 64} | case,
        step=step,
        side=side,
        timing=summarize([0.001]),
        metrics={"others_cores": QUIET} | metrics,
    )


def _findings(rows: list[Row], gpus: tuple[str, ...] = ()) -> tuple[Finding, ...]:
    """Sums up what a machine with these GPUs measured: on the first, if it has one."""
    return findings(record_of(rows, gpus, device="cuda" if gpus else "cpu"))


def _find(rows: list[Row], name: str, gpus: tuple[str, ...] = ()) -> Finding:
    (found,) = [finding for finding in _findings(rows, gpus) if finding.name == name]
    return found


def test_geometric_mean() -> None:
    assert geometric_mean([1.0, 4.0, 16.0]) == pytest.approx(4.0)
    assert geometric_mean([]) is None


def test_ratio_is_the_geometric_mean_over_lengths_and_masks() -> None:
    rows = [
        _row("torch sdpa", "forward", {"times_ours": 2.0}),
        _row("torch sdpa", "forward", {"times_ours": 4.5}, causal=True),
        _row("torch sdpa", "backward", {"times_ours": 100.0}),
        _row("torch sdpa", "forward", {"times_ours": 100.0}, feature="gqa"),
        _row("jax.nn", "forward", {"times_ours": 100.0}),
    ]
    found = _find(rows, "aim: torch sdpa float32 forward: time / ours")
    assert found.value == pytest.approx(math.sqrt(2.0 * 4.5))
    assert (found.cases, found.aim, found.reached) == (2, 2.0, True)
    full = _find(rows, "torch sdpa plain float32 full forward: time / ours")
    assert (full.value, full.cases) == (pytest.approx(2.0), 1)


def test_missed_aim() -> None:
    rows = [_row("torch sdpa", "backward", {"times_ours": 1.99})]
    assert _find(rows, "aim: torch sdpa float32 backward: time / ours").reached is False


def test_what_was_measured_under_load_does_not_count() -> None:
    rows = [
        _row("torch sdpa", "forward", {"times_ours": 1.0}),
        _row("torch sdpa", "forward", {"times_ours": 60.0, "others_cores": BUSY}),
    ]
    found = _find(rows, "aim: torch sdpa float32 forward: time / ours")
    assert (found.value, found.cases) == (pytest.approx(1.0), 1)


def test_nothing_measured_reaches_nothing() -> None:
    found = _find([_row("ours, torch", "both", {})], "aim: jax.nn float32 forward: time / ours")
    assert (found.value, found.cases, found.reached) == (None, 0, None)


def test_fraction_of_the_ceiling_is_the_least_from_2048_on() -> None:
    rows = [
        _row("ours, torch", "forward", {"fraction_of_ceiling": fraction}, seq_k=length)
        for length, fraction in ((1024, 0.1), (2048, 0.75), (4096, 0.72))
    ]
    name = "aim: ours, torch float32 forward, 2048 and up: least of ceiling"
    found = _find(rows, name)
    assert (found.value, found.cases, found.reached) == (0.72, 2, True)


@pytest.mark.parametrize(("grown", "power", "reached"), [(40.0, 1.0, True), (160.0, 2.0, False)])
def test_power_of_memory(grown: float, power: float, reached: bool) -> None:
    rows = [
        Row(
            table="memory",
            case={"feature": "plain", "dtype": "float32", "seq_k": length},
            step="both",
            side="ours, torch",
            metrics={"peak_mib": peak},
        )
        for length, peak in ((1024, 10.0), (4096, grown))
    ]
    found = _find(rows, "aim: ours, torch float32 both: memory grows as length to the, at most")
    assert found.value == pytest.approx(power)
    assert found.reached is reached


def test_h200_aims_only_on_one() -> None:
    name = "aim: ours, bfloat16 causal forward 4096: TFLOP/s"
    case: dict[str, str | int | bool] = {"dtype": "bfloat16", "causal": True}
    case |= {"seq_k": 4096, "head_dim": 128}
    rows = [_row("ours, torch", "forward", {"gflop_per_s": 600e3}, **case)]
    found = _find(rows, name, gpus=("NVIDIA H200, 143771 MiB, 570.0",))
    assert (found.value, found.aim, found.reached) == (600.0, 591.0, True)
    assert not any(f.name == name for f in _findings(rows, ("NVIDIA H100, 81559 MiB, 570.0",)))


def test_the_fastest_peer_on_cuda() -> None:
    rows = [
        _row("torch sdpa flash", "forward", {"times_ours": 1.5}),
        _row("torch sdpa cudnn", "forward", {"times_ours": 0.9}),
        _row("ours (triton), torch", "forward", {"times_ours": 0.5}),
    ]
    name = "aim: the fastest peer of each case, forward: least time / ours"
    found = _find(rows, name, gpus=("NVIDIA H100",))
    assert (found.value, found.reached) == (0.9, False)
