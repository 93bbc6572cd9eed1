"""Reports add up, and are shown as plain lines or as a bar."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from train.callbacks import CommunicationReport, StepReport
from train.config import TrainConfig
from train.example import short_config
from train.meter import Meter, TrainingError
from train.progress import show_progress

REPORT = StepReport(
    step=50, num_steps=200, loss=1.25, accuracy=0.5, learning_rate=1e-3, images_per_s=1234.5
)

COMMUNICATION = CommunicationReport(
    bytes_per_step=105_312.4, ratio=0.2543, description="gradient compression: int8"
)
COMMUNICATION_LINE = (
    "sent 105.3 kB a step from each rank, 0.254x of float32 (gradient compression: int8)"
)


class Recorder:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.reports: list[StepReport] = []

    def on_step(self, report: StepReport) -> None:
        self.reports.append(report)

    def on_evaluation(self, metrics: dict[str, float]) -> None:
        raise AssertionError("there was no evaluation")

    def on_communication(self, report: CommunicationReport) -> None:
        raise AssertionError("nothing was sent")


def _config() -> TrainConfig:
    return short_config(num_steps=7, log_every_steps=3)


def test_a_report_is_the_mean_since_the_one_before() -> None:
    recorder = Recorder()
    rates = np.linspace(0.1, 0.7, 7, dtype=np.float32)
    meter = Meter(_config(), rates.__getitem__, [recorder])
    for step in range(7):
        meter.record(step, loss=float(step), accuracy=step / 10)
    assert [report.step for report in recorder.reports] == [3, 6, 7]
    assert [report.loss for report in recorder.reports] == [1.0, 4.0, 6.0]
    assert [report.accuracy for report in recorder.reports] == pytest.approx([0.1, 0.4, 0.6])
    assert [report.learning_rate for report in recorder.reports] == [
        pytest.approx(rate) for rate in (0.3, 0.6, 0.7)
    ]
    assert all(report.images_per_s > 0 for report in recorder.reports)


def test_a_report_is_the_mean_over_ranks_asked_for_only_when_due() -> None:
    recorder = Recorder()
    asked: list[np.ndarray] = []

    def mean_with_a_rank_of_zeros(values: np.ndarray) -> np.ndarray:
        asked.append(values)
        return values / 2

    meter = Meter(_config(), lambda step: 1.0, [recorder], mean_with_a_rank_of_zeros)
    for step in range(7):
        meter.record(step, loss=float(step), accuracy=step / 10)
    assert [values.shape for values in asked] == [(2, 3), (2, 3), (2, 1)]
    assert [report.loss for report in recorder.reports] == [0.5, 2.0, 3.0]
    assert [report.accuracy for report in recorder.reports] == pytest.approx([0.05, 0.2, 0.3])


def test_the_clipped_fraction_is_the_mean_over_ranks_when_due() -> None:
    recorder = Recorder()
    meter = Meter(_config(), lambda step: 1.0, [recorder], lambda values: values / 2)
    for step in range(7):
        fraction = step / 10 if meter.is_due(step) else None
        meter.record(step, loss=1.0, accuracy=0.5, clipped_fraction=fraction)
    fractions = [report.clipped_fraction for report in recorder.reports]
    assert fractions == pytest.approx([0.1, 0.25, 0.3])


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_diverged_loss_ends_the_run(loss: float) -> None:
    meter = Meter(_config(), lambda step: 1.0, [])
    meter.record(0, loss, 0.0)
    meter.record(1, 1.0, 0.0)
    with pytest.raises(
        TrainingError, match=r"no longer finite at step 3; lower optimizer\.adamw\.learning_rate"
    ):
        meter.record(2, 1.0, 0.0)


def test_plain_lines_where_there_is_no_terminal() -> None:
    output = io.StringIO()
    with show_progress(Console(file=output), num_steps=200) as progress:
        progress.on_step(REPORT)
        progress.on_evaluation({"loss_nats": 0.25, "accuracy": 0.975})
        progress.on_communication(COMMUNICATION)
    assert output.getvalue().splitlines() == [
        "step  50/200  loss 1.2500  accuracy 0.5000  1,234 images/s  lr 1.00e-03",
        "held-out  accuracy 0.9750  loss_nats 0.2500",
        COMMUNICATION_LINE,
    ]


def test_what_sophia_clipped_is_shown() -> None:
    output = io.StringIO()
    with show_progress(Console(file=output), num_steps=200) as progress:
        progress.on_step(replace(REPORT, clipped_fraction=0.875))
    assert output.getvalue() == (
        "step  50/200  loss 1.2500  accuracy 0.5000  clipped 87.5%  1,234 images/s  lr 1.00e-03\n"
    )


def test_a_bar_on_a_terminal() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120)
    with show_progress(console, num_steps=200) as progress:
        progress.on_step(REPORT)
        progress.on_communication(COMMUNICATION)
    assert COMMUNICATION_LINE in output.getvalue()
    assert "50/200" in output.getvalue()
    assert "loss 1.2500" in output.getvalue()
