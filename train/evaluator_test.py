"""A run is measured on its way, without a trace in what it learns, and says so in its directory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.dataset import Split
from data.validation import hold_out
from models.torch.predict import predict_fn
from registry.artifact import load
from train import evaluator, loop
from train.backends.deepspeed_backend import DeepSpeedBackend
from train.checkpoint.beginning import NEWEST, Beginning
from train.checkpoint.run_directory import ARTIFACT, EVALUATIONS
from train.config.schema import TrainConfig
from train.evaluation import evaluate
from train.evaluation_files import CONFUSION_MATRIX
from train.events import Evaluated, Event, Warned
from train.launch.process_group import join_alone
from train.tasks.classification.task import CLASSIFICATION
from train.testing.example import short_config

_EVERY_2: dict[str, Any] = {"evaluation": {"every_steps": 2, "batch_size": 100}}


def _config(**sections: Any) -> TrainConfig:
    return short_config(num_steps=4, **sections)


def _run(config: TrainConfig, directory: Path, beginning: Beginning = NEWEST) -> list[Event]:
    join_alone()
    events: list[Event] = []
    loop.run(config, directory, DeepSpeedBackend(config), [events.append], beginning)
    return events


def _evaluated(events: list[Event]) -> list[Evaluated]:
    return [event for event in events if isinstance(event, Evaluated)]


def _files(directory: Path) -> set[str]:
    return {path.name for path in (directory / EVALUATIONS).iterdir()}


def _name(step: int) -> str:
    return f"step-{step:012}.json"


@pytest.mark.parametrize("ema", [{}, {"ema": {"decay": 0.5}}], ids=["latest", "averaged"])
def test_a_run_is_measured_on_its_way(ema: dict[str, Any], tmp_path: Path) -> None:
    config = _config(**_EVERY_2, **ema)
    found = _evaluated(_run(config, tmp_path))
    assert [(event.step, event.is_final) for event in found] == [(2, False), (4, False), (4, True)]
    assert found[0].metrics != found[1].metrics == found[2].metrics
    # What is published is what was measured, and the directory has the same figures.
    test = config.data.load().test
    predict = predict_fn(config.model, load(tmp_path / ARTIFACT).tensors)
    expected = evaluate(CLASSIFICATION, predict, test, config.data.describe())
    assert found[2].metrics == pytest.approx(expected.metrics)
    assert _files(tmp_path) == {_name(2), _name(4), CONFUSION_MATRIX}
    for event in found:
        written = json.loads((tmp_path / EVALUATIONS / _name(event.step)).read_text())
        assert {
            name: metric["value"] for name, metric in written["metrics"].items()
        } == event.metrics
        assert written["metrics"]["accuracy"]["interval_95"] == list(event.intervals["accuracy"])
        assert written["num_examples"] == event.num_examples == len(test)
        assert np.sum(written["confusion_matrix"]) == len(test)
        assert written["weights"] == ("moving average" if ema else "latest")


def test_being_measured_changes_nothing_that_is_learnt(tmp_path: Path) -> None:
    weights = []
    for name, sections in {"plain": {}, "measured": _EVERY_2}.items():
        _run(_config(**sections), tmp_path / name)
        weights.append(load(tmp_path / name / ARTIFACT).tensors)
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        np.testing.assert_array_equal(tensor, weights[1][name])


def test_going_on_from_before_sets_later_evaluations_aside(tmp_path: Path) -> None:
    config = _config(**_EVERY_2, checkpoint={"every_steps": 1})
    first = _evaluated(_run(config, tmp_path))
    again = _evaluated(_run(config, tmp_path, Beginning(from_step=3)))
    assert again == first[1:]
    assert _files(tmp_path) == {_name(2), _name(4), CONFUSION_MATRIX}
    (aside,) = (tmp_path / "set-aside").iterdir()
    assert _files(aside) == {_name(4), CONFUSION_MATRIX}
    _run(config, tmp_path, Beginning(fresh=True))
    (latest,) = set((tmp_path / "set-aside").iterdir()) - {aside}
    assert _files(latest) == {_name(2), _name(4), CONFUSION_MATRIX}


def test_validation_examples_are_measured_and_not_learnt(tmp_path: Path) -> None:
    evaluation = {"every_steps": 2, "validation_fraction": 0.2}
    config = _config(evaluation=evaluation, run={"num_steps": None, "num_epochs": 1})
    events = _run(config, tmp_path)
    data, spec = config.data.load(), config.data.describe()
    learnt, validation = hold_out(data.train, spec, 0.2)
    num_steps = -(-len(learnt) // config.data.global_batch_size)
    found = _evaluated(events)
    on_the_way = ["validation"] * (num_steps // 2)
    assert [event.measured_on for event in found] == [*on_the_way, "held-out"]
    assert {event.num_examples for event in found[:-1]} == {len(validation)}
    assert found[-1].num_examples == len(data.test)
    predict = predict_fn(config.model, load(tmp_path / ARTIFACT).tensors)
    own = Split(data.train.inputs[validation], data.train.targets[validation])
    for event, split in ((found[-1], data.test), (found[-2], own)):
        if event.step == num_steps:
            expected = evaluate(CLASSIFICATION, predict, split, spec).metrics
            assert event.metrics == pytest.approx(expected)
    assert _name(num_steps) in _files(tmp_path)
    assert f"validation-{_name(2)}" in _files(tmp_path)


def test_an_evaluation_that_cannot_be_written_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(evaluator, "write_evaluation", full)
    events = _run(_config(**_EVERY_2), tmp_path)
    (tmp_path / ARTIFACT).stat()
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert len(warnings) == 3
    assert "the evaluation after 2 steps could not be written" in warnings[0]
    assert "No space left" in warnings[0]


def test_a_batch_is_as_large_as_it_is_configured() -> None:
    sizes: list[int] = []

    def predict(inputs: np.ndarray) -> np.ndarray:
        sizes.append(len(inputs))
        return np.zeros((len(inputs), 10), np.float32)

    split = Split(np.zeros((7, 1)), np.zeros(7, np.int32))
    evaluate(CLASSIFICATION, predict, split, _config().data.describe(), 3)
    assert sizes == [3, 3, 1]
