"""What judges evaluations does so by the rules of those that it is named after."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.callbacks.best_checkpoints import BestCheckpoints
from train.callbacks.callbacks import Stateful
from train.callbacks.early_stopping import EarlyStopping
from train.callbacks.improvement import Improvement
from train.callbacks.plateau import ReduceOnPlateau
from train.callbacks.table import score_of
from train.config.callbacks import EarlyStoppingConfig, ReduceOnPlateauConfig
from train.events import Action, Evaluated, KeepBest, Save, ScaleLearningRate, Stop
from train.testing.example import short_config

_VALUES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), max_size=25)


def _stopping(mode: Any = "max", **config: Any) -> EarlyStopping:
    checked = EarlyStoppingConfig(**config)
    return EarlyStopping(checked, "m", Improvement(mode, checked.min_delta))


def _plateau(mode: Any = "min", **config: Any) -> ReduceOnPlateau:
    checked = ReduceOnPlateauConfig(**config)
    return ReduceOnPlateau(checked, "m", Improvement(mode, checked.min_delta))


def _answers(callback: Stateful, values: Iterable[float]) -> list[Any]:
    return [
        callback(Evaluated(step, {"m": value}, is_final=False))
        for step, value in enumerate(values, start=1)
    ]


def test_a_run_stops_after_patience_evaluations_without_a_better_one() -> None:
    answers = _answers(_stopping(patience=2), [0.5, 0.7, 0.7, 0.8, 0.1, 0.8])
    assert answers == [
        KeepBest(),
        KeepBest(),
        None,
        KeepBest(),
        None,
        Stop("m has not improved in 2 evaluations; the best was 0.8000"),
    ]


def test_less_may_be_better_and_by_how_much_counts() -> None:
    answers = _answers(_stopping("min", patience=9, min_delta=0.1), [1.0, 0.95, 0.85, 0.8, 0.7])
    assert answers == [KeepBest(), None, KeepBest(), None, KeepBest()]


def test_what_is_no_number_is_never_better() -> None:
    nan = math.nan
    answers = _answers(_stopping(patience=2), [nan, 0.1, nan, nan])
    assert [type(answer) for answer in answers] == [type(None), KeepBest, type(None), Stop]
    [_, stop] = _answers(_stopping(patience=2), [nan, nan])
    assert stop == Stop("m has not improved in 2 evaluations; the best was no number")


def test_what_an_evaluation_lacks_is_no_number() -> None:
    without = Evaluated(1, {"other": 1.0}, is_final=False)
    assert _stopping(patience=2)(without) is None
    assert isinstance(_stopping(patience=1)(without), Stop)
    assert _plateau(patience=2)(without) is None
    assert BestCheckpoints(1, "m", "max")(without) is None


def test_the_last_model_is_published_where_the_best_is_not_wanted() -> None:
    assert _answers(_stopping(patience=3, restore_best=False), [0.1, 0.2]) == [None, None]


def test_the_evaluation_of_what_is_published_is_not_judged() -> None:
    for callback in (
        _stopping(patience=1),
        _plateau(patience=1),
        BestCheckpoints(1, "m", "max"),
    ):
        assert callback(Evaluated(1, {"m": 1.0}, is_final=True)) is None


@settings(deadline=None)  # torch imports more at the first
@given(_VALUES, st.integers(1, 4), st.integers(0, 3), st.sampled_from(["min", "max"]))
def test_a_plateau_is_what_torch_calls_one(
    values: Sequence[float], patience: int, cooldown: int, mode: Any
) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode=mode,
        factor=0.5,
        patience=patience - 1,  # which counts those that are let pass
        threshold=0.1,
        threshold_mode="abs",
        cooldown=cooldown,
        min_lr=0.2,
        eps=0.0,
    )
    ours = _plateau(
        mode, patience=patience, factor=0.5, min_delta=0.1, cooldown=cooldown, min_scale=0.2
    )
    scale = 1.0
    for step, value in enumerate(values, start=1):
        answer = ours(Evaluated(step, {"m": value}, is_final=False))
        if isinstance(answer, ScaleLearningRate):
            scale *= answer.factor
        scheduler.step(value)
        assert scale == pytest.approx(optimizer.param_groups[0]["lr"])


@given(_VALUES, st.integers(1, 4), st.sampled_from(["min", "max"]))
def test_those_among_the_best_so_far_are_saved(
    values: Sequence[float], num_kept: int, mode: Any
) -> None:
    answers = _answers(BestCheckpoints(num_kept, "m", mode), values)
    sign = 1 if mode == "max" else -1
    for number, value in enumerate(values):
        as_good = sum(sign * other >= sign * value for other in values[:number])
        assert (answers[number] == Save()) == (as_good < num_kept)


@given(_VALUES, st.integers(0, 25))
def test_they_go_on_from_their_states(values: Sequence[float], cut: int) -> None:
    def made() -> list[Stateful]:
        return [
            _stopping(patience=3),
            _plateau(patience=2, cooldown=1),
            BestCheckpoints(2, "m", "max"),
        ]

    for whole, first, second in zip(made(), made(), made(), strict=True):
        expected: list[Action | None] = _answers(whole, values)
        found = _answers(first, values[:cut])
        second.restore(json.loads(json.dumps(first.state())))
        assert found + _answers(second, values[cut:]) == expected


def test_only_a_number_is_a_score() -> None:
    by_loss = short_config(num_steps=1, checkpoint={"keep_best_metric": "loss_nats"})
    score = score_of(by_loss)
    assert score({"loss_nats": 0.5, "accuracy": 1.0}) == -0.5
    assert score({"loss_nats": math.nan}) is None
    assert score({"accuracy": 1.0}) is None
    assert score_of(short_config(num_steps=1))({"accuracy": 0.25}) == 0.25
