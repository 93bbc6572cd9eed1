"""A window of steps is summed up in words however it ends, or it is told why there are none."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from train.callbacks.profiler import Profiler
from train.callbacks.surroundings import Surroundings
from train.events import (
    Began,
    Event,
    Profiled,
    RolledBack,
    StepBegins,
    Stepped,
    Stopped,
    Tell,
    Warned,
)
from train.phases import Phases

_DAY_US = 86_400e6


class _Traced:
    """A profiler of a backend whose trace has one operation at work, the whole day long.

    Attributes:
        directory: Where to.
        hear: The profiler.
        num_traces: That were begun.
    """

    def __init__(self, directory: Path, operation: str = "aten::mm"):
        backend = SimpleNamespace(wait=lambda: None, trace=self._trace)
        surroundings = Surroundings(directory, cast(Any, backend), Phases())
        self.directory, self.num_traces, self._operation = directory / "profile", 0, operation
        self.hear = Profiler(3, 2, self.directory, surroundings)

    @contextmanager
    def _trace(self, directory: Path) -> Iterator[None]:
        self.num_traces += 1
        yield
        event = {"name": self._operation, "cat": "cpu_op", "ph": "X", "ts": 0, "dur": _DAY_US}
        (directory / "trace.json").write_text(json.dumps({"traceEvents": [event]}))

    def told(self, *events: Event) -> list[Event]:
        """Returns what the profiler tells when it hears these."""
        answers = [self.hear(event) for event in events]
        return [answer.event for answer in answers if isinstance(answer, Tell)]

    def words(self) -> str:
        """Returns the summary."""
        return (self.directory / "summary.txt").read_text()


@pytest.mark.parametrize(
    ("operation", "bottleneck"),
    [
        ("aten::mm", "compute: operations at work"),
        ("gloo:all_reduce", "communication: collectives at work, and nothing else"),
    ],
)
def test_the_words_name_what_takes_most(tmp_path: Path, operation: str, bottleneck: str) -> None:
    traced = _Traced(tmp_path, operation)
    [profiled] = traced.told(*map(StepBegins, range(9)))
    assert isinstance(profiled, Profiled)
    assert (profiled.step, profiled.num_steps) == (4, 2)
    assert profiled.bottleneck == bottleneck.partition(":")[0]
    assert traced.words().endswith(f"The bottleneck is {bottleneck}.\n")


@pytest.mark.parametrize(
    "last",
    [Stopped(3, 9, "no better"), Stepped(3, 3, 1.0, {}, 0.1, 1.0, "examples")],
    ids=["stopped", "the last step"],
)
def test_a_window_that_is_cut_is_summed_up(tmp_path: Path, last: Event) -> None:
    traced = _Traced(tmp_path)
    [profiled] = traced.told(StepBegins(2), last)
    assert isinstance(profiled, Profiled)
    assert (profiled.step, profiled.num_steps) == (3, 1)
    assert json.loads((traced.directory / "summary.json").read_text())["num_steps"] == 1


def test_a_window_that_is_not_reached_is_told(tmp_path: Path) -> None:
    traced = _Traced(tmp_path)
    assert traced.told(Began(0, 9), StepBegins(1), Stopped(2, 9, "no better")) == [
        Warned("callbacks.profiler.first_step 3 is not traced: the run ends after 2 steps")
    ]
    assert traced.num_traces == 0


def test_a_run_that_goes_on_after_the_window_says_so_unless_there_is_a_summary(
    tmp_path: Path,
) -> None:
    assert _Traced(tmp_path).told(Began(2, 9)) == []
    assert _Traced(tmp_path).told(Began(3, 9)) == [
        Warned("callbacks.profiler.first_step 3 is not traced: the run goes on after 3 steps")
    ]
    _Traced(tmp_path).told(StepBegins(2), StepBegins(4))
    assert _Traced(tmp_path).told(Began(3, 9)) == []


def test_steps_that_are_rolled_back_are_traced_anew(tmp_path: Path) -> None:
    traced = _Traced(tmp_path)
    [warned] = traced.told(StepBegins(2), RolledBack(3, 1, 1, "a loss that is no number"))
    assert isinstance(warned, Warned)
    assert not (traced.directory / "summary.txt").exists()
    [profiled] = traced.told(*map(StepBegins, range(1, 6)))
    assert isinstance(profiled, Profiled)
    assert profiled.num_steps == 2
    assert traced.told(RolledBack(6, 1, 2, "again"), *map(StepBegins, range(1, 6))) == []
    assert traced.num_traces == 2
