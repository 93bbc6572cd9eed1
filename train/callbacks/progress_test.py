"""Events are shown as plain lines or on a bar."""

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from train.callbacks.progress import show_progress
from train.events import (
    Began,
    Communicated,
    Evaluated,
    PeakMemory,
    Resumed,
    Saved,
    SaveFailed,
    Stepped,
    Stopped,
    Warned,
)

REPORT = Stepped(
    step=50,
    num_steps=200,
    loss=1.25,
    metrics={"accuracy": 0.5},
    learning_rate=1e-3,
    examples_per_s=1234.5,
    unit="images",
)

COMMUNICATION = Communicated(
    bytes_per_step=105_312.4, ratio=0.2543, description="gradient compression: int8"
)
COMMUNICATION_LINE = (
    "sent 105.3 kB a step from each rank, 0.254x of float32 (gradient compression: int8)"
)


def test_plain_lines_where_there_is_no_terminal() -> None:
    output = io.StringIO()
    with show_progress(Console(file=output)) as progress:
        progress(REPORT)
        progress(Evaluated(25, {"loss_nats": 0.5, "accuracy": 0.75}, is_final=False))
        progress(
            Evaluated(
                50,
                {"loss_nats": 0.25, "accuracy": 0.975, "calibration_error": 0.01},
                is_final=True,
                intervals={"accuracy": (0.9123, 0.99), "loss_nats": (0.125, 0.375)},
                num_examples=40,
            )
        )
        progress(Stopped(50, 200, "it is good enough"))
        progress(COMMUNICATION)
        progress(PeakMemory(2_000_000_000, None))
        progress(PeakMemory(2_000_000_000, 31_400_000_000))
        progress(Resumed(1200, "from a/checkpoints"))
        progress(Warned("a file was changed"))
        progress(Saved(1300, Path("a/checkpoints/step-1300")))
        progress(SaveFailed(1400, "No space left on device"))
    assert output.getvalue().splitlines() == [
        "step  50/200  loss 1.2500  accuracy 0.5000  1,234 images/s  lr 1.00e-03",
        "held-out after 25 steps  accuracy 0.7500  loss_nats 0.5000",
        "held-out  accuracy 0.9750 [0.9123, 0.9900]  calibration_error 0.0100  "
        "loss_nats 0.2500 [0.1250, 0.3750]",
        "stopped after 50 of 200 steps: it is good enough",
        COMMUNICATION_LINE,
        "peak memory of a rank: 2.0 GB",
        "peak memory of a rank: 2.0 GB, 31.4 GB of GPU",
        "goes on after 1,200 steps, from a/checkpoints",
        "warning: a file was changed",
        "saved after 1,300 steps in a/checkpoints/step-1300",
        "warning: not saved after 1,400 steps: No space left on device",
    ]


def test_what_sophia_clipped_is_shown() -> None:
    output = io.StringIO()
    with show_progress(Console(file=output)) as progress:
        progress(replace(REPORT, fractions={"clipped": 0.875}))
    assert output.getvalue() == (
        "step  50/200  loss 1.2500  accuracy 0.5000  clipped 87.5%  1,234 images/s  lr 1.00e-03\n"
    )


def test_what_is_left_is_told_by_the_steps_that_this_process_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = io.StringIO()
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with show_progress(Console(file=output, force_terminal=True, width=160)) as progress:
        progress(Began(900, 1000))
        for step, seconds in ((910, 60.0), (920, 20.0)):  # a minute is for compiling
            now[0] += seconds
            progress(replace(REPORT, step=step, num_steps=1000))
    assert "920/1000" in output.getvalue()
    assert output.getvalue().count("ETA 0:02:40") >= 1
    assert output.getvalue().count("ETA") == output.getvalue().count("ETA 0:02:40")


def test_a_bar_on_a_terminal() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120)
    with show_progress(console) as progress:
        progress(REPORT)
        progress(COMMUNICATION)
    assert COMMUNICATION_LINE in output.getvalue()
    assert "50/200" in output.getvalue()
    assert "loss 1.2500" in output.getvalue()
