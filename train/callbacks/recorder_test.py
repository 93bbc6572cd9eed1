"""Records have every step once, whatever a run goes through; their own readers say so."""

import errno
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from train.callbacks.appended_file import AppendedFile
from train.callbacks.event_files import EventFiles
from train.callbacks.json_lines import JsonLines
from train.callbacks.recorder import Record, Recorder
from train.events import (
    Began,
    Evaluated,
    Event,
    Resumed,
    RolledBack,
    Saved,
    Stepped,
    Tell,
    Warned,
)


def _report(step: int, loss: float) -> Stepped:
    return Stepped(
        step=step,
        num_steps=100,
        loss=loss,
        metrics={"accuracy": 0.5},
        learning_rate=1e-3,
        examples_per_s=80.0,
        unit="images",
        fractions={"clipped": 0.25},
        phases={"data": 0.125},
    )


def _tell(record: Record, events: Sequence[Event]) -> None:
    recorder = Recorder(record, "it")
    for event in events:
        assert recorder(event) is None
    recorder.close()


# A process that is killed at step 37, and two that go on from the checkpoint after step 30.
_KILLED = [Began(0, 100), *(_report(step, 1.0) for step in range(1, 38))]
_ROLLED_BACK = [
    Warned("a file was changed"),
    Resumed(30, "from a checkpoint"),
    Began(30, 100),
    *(_report(step, 2.0) for step in range(31, 40)),
    RolledBack(39, 35, 1, "by chance"),
    *(_report(step, 3.0) for step in range(36, 41)),
]
_ENDED = [
    Began(40, 100),
    *(_report(step, 4.0) for step in range(41, 43)),
    Evaluated(42, {"accuracy": 0.75}, is_final=False),
    Saved(42, Path("a/checkpoints/step-42")),
    Evaluated(42, {"accuracy": 0.75}, is_final=True),
]
_RIGHT = [1.0] * 30 + [2.0] * 5 + [3.0] * 5 + [4.0] * 2


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for events in (_KILLED, _ROLLED_BACK, _ENDED):
        _tell(JsonLines(path), events)
        with path.open("a") as file:
            file.write('{"time_s": 17')  # of a line that a power cut left
    content = path.read_text()
    assert content.endswith('\n{"time_s": 17')
    path.write_text(content.removesuffix('{"time_s": 17'))
    lines = _lines(path)
    steps = [(line["step"], line["loss"]) for line in lines if line["event"] == "Stepped"]
    assert steps == list(enumerate(_RIGHT, start=1))
    others = [line["event"] for line in lines if line["event"] != "Stepped"]
    resumed = ["Warned", "Resumed", "Began", "RolledBack"]
    assert others == ["Began", *resumed, "Began", "Evaluated", "Saved", "Evaluated"]
    report = next(line for line in lines if line["event"] == "Stepped")
    assert report.pop("time_s")
    assert report == {
        "event": "Stepped",
        "step": 1,
        "num_steps": 100,
        "loss": 1.0,
        "metrics": {"accuracy": 0.5},
        "learning_rate": 1e-3,
        "examples_per_s": 80.0,
        "unit": "images",
        "fractions": {"clipped": 0.25},
        "phases": {"data": 0.125},
    }


def test_a_run_that_begins_anew_forgets_all(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for loss in (1.0, float("nan")):
        _tell(JsonLines(path), [Began(0, 2), _report(1, loss), _report(2, loss)])
    lines = _lines(path)
    assert [line["event"] for line in lines] == ["Began", "Began", "Stepped", "Stepped"]
    assert [line["loss"] for line in lines[2:]] == [None, None]


def test_tensorboard_reads_its_curves(tmp_path: Path) -> None:
    directory = tmp_path / "tensorboard"
    for events in (_KILLED, _ROLLED_BACK, _ENDED):
        _tell(EventFiles(directory), events)
        newest = max(directory.iterdir())
        with newest.open("ab") as file:
            file.write(b"\x20\0\0\0")  # the beginning of an entry
    read = EventAccumulator(str(directory), {"scalars": 0})
    read.Reload()
    found = [(scalar.step, scalar.value) for scalar in read.Scalars("train/loss")]
    assert found == list(enumerate(_RIGHT, start=1))
    assert [(s.step, s.value) for s in read.Scalars("held_out/accuracy")] == [(42, 0.75)]
    assert set(read.Tags()["scalars"]) == {
        "train/loss",
        "train/accuracy",
        "train/learning_rate",
        "train/examples_per_s",
        "fraction/clipped",
        "phase_s/data",
        "held_out/accuracy",
    }


@pytest.mark.parametrize("kind", [JsonLines, EventFiles])
def test_a_full_disk_is_told_once_and_costs_only_what_is_lost(
    kind: type[JsonLines] | type[EventFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record"
    recorder = Recorder(kind(path), "the record")
    recorder(Began(0, 100))
    recorder(_report(1, 1.0))
    with monkeypatch.context() as context:
        _fill_disk(context)
        answer = recorder(_report(2, 1.0))
        assert isinstance(answer, Tell)
        assert isinstance(answer.event, Warned)
        assert "the record cannot be written" in answer.event.message
        assert "No space left on device" in answer.event.message
        assert recorder(answer.event) is None
    assert recorder(_report(3, 1.0)) is None
    recorder.close()
    if kind is JsonLines:
        assert [line["step"] for line in _lines(path)] == [0, 1, 3]
    else:
        read = EventAccumulator(str(path))
        read.Reload()
        assert [scalar.step for scalar in read.Scalars("train/loss")] == [1, 3]


def _fill_disk(context: pytest.MonkeyPatch) -> None:
    """Has the disk take half of each entry."""
    original = AppendedFile.append

    def half(self: AppendedFile, entry: bytes) -> None:
        file = self._file

        class Full:
            def write(self, data: bytes) -> int:
                file.write(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")

            def truncate(self, size: int) -> int:
                return file.truncate(size)

        self._file = Full()  # type: ignore[assignment]
        try:
            original(self, entry)
        finally:
            self._file = file

    context.setattr(AppendedFile, "append", half)
