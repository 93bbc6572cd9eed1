"""What callbacks answer turns the course of a run, in both frameworks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.loader import Loader
from registry.artifact import load
from train import train_flax, train_torch, training
from train.backends.backend import Backend, StepResult
from train.callbacks.callbacks import CallbackError
from train.checkpoint.beginning import Beginning
from train.checkpoint.run_directory import ARTIFACT
from train.checkpoint.store import CheckpointStore
from train.cli import Train
from train.config.schema import TrainConfig
from train.events import (
    Abort,
    Action,
    Callback,
    Evaluated,
    Event,
    KeepBest,
    Resumed,
    RollBack,
    RolledBack,
    Save,
    Saved,
    ScaleLearningRate,
    Stepped,
    Stop,
    Stopped,
)
from train.meter import TrainingError
from train.recipe import Batch, StepScalars, batch_of, training_batches
from train.testing.example import short_config
from train.testing.sower.runs import NUM_STEPS, sower_config

TRAINERS: dict[str, Train] = {"flax": train_flax.train, "torch": train_torch.train}
_STAGES = [("flax", 0), ("torch", 0), ("torch", 2), ("torch", 3)]
_NO_SAVES = {"every_steps": None}


@pytest.fixture(params=TRAINERS)
def train(request: pytest.FixtureRequest) -> Train:
    return TRAINERS[request.param]


class Answering:
    """Hears all, and answers a report of each of these steps once."""

    def __init__(self, **answers: Action):
        self._answers = {int(step.removeprefix("at_")): answer for step, answer in answers.items()}
        self.events: list[Event] = []

    def __call__(self, event: Event) -> Action | None:
        self.events.append(event)
        return self._answers.pop(event.step, None) if isinstance(event, Stepped) else None

    def of(self, *kinds: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]


def _weights(directory: Path) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in load(directory / ARTIFACT).tensors.items()}


def _steps(directory: Path) -> list[int]:
    return CheckpointStore(directory / "checkpoints").steps()


def test_a_run_is_saved_when_it_is_asked_for(train: Train, tmp_path: Path) -> None:
    answering = Answering(at_2=Save(), at_3=Save())
    train(sower_config(checkpoint=_NO_SAVES), tmp_path / "run", [answering])
    assert [saved.step for saved in answering.of(Saved)] == [2, 3]
    assert _steps(tmp_path / "run") == [2, 3]


def test_the_best_is_published(train: Train, tmp_path: Path) -> None:
    config = sower_config(checkpoint={"every_steps": 1, "keep_last": 1})
    best = Answering(at_1=KeepBest(), at_3=KeepBest())
    publication = train(config, tmp_path / "best", [best])
    assert publication.artifact.training_run.steps == 3
    train(config, tmp_path / "stopped", [Answering(at_3=Stop("enough"))])
    assert _weights(tmp_path / "best") == _weights(tmp_path / "stopped")
    assert _steps(tmp_path / "best") == [3, 5]
    assert [event.step for event in best.of(Stepped)] == list(range(1, NUM_STEPS + 1))
    [evaluated] = best.of(Evaluated)
    assert (evaluated.step, evaluated.is_final) == (3, True)


def test_the_rate_is_scaled_from_then_on(train: Train, tmp_path: Path) -> None:
    config = sower_config()
    plain, scaled = Answering(), Answering(at_2=ScaleLearningRate(0.5), at_4=ScaleLearningRate(0.1))
    train(config, tmp_path / "plain", [plain])
    train(config, tmp_path / "scaled", [scaled])
    factors = [1.0, 1.0, 0.5, 0.5, 0.05, 0.05]
    rates = [event.learning_rate for event in plain.of(Stepped)]
    assert [event.learning_rate for event in scaled.of(Stepped)] == pytest.approx(
        np.multiply(rates, factors), rel=1e-6
    )


def test_an_abort_ends_the_run_and_publishes_nothing(train: Train, tmp_path: Path) -> None:
    config = sower_config(checkpoint={"every_steps": 1})
    with pytest.raises(TrainingError, match=r"^this is no good$"):
        train(config, tmp_path / "run", [Answering(at_3=Abort("this is no good"))])
    assert not (tmp_path / "run" / ARTIFACT).exists()
    assert _steps(tmp_path / "run") == [1, 2]


def _recording(backend: Backend, found: list[bytes]) -> None:
    """Has a backend note the seeds of each batch, which tell batches apart."""
    step: Callable[[Batch, StepScalars], StepResult] = backend.step

    def recording(batch: Batch, scalars: StepScalars) -> StepResult:
        found.append(batch.seeds.tobytes())
        return step(batch, scalars)

    backend.step = recording  # type: ignore[method-assign]


def _batches_of(
    train: Train, config: TrainConfig, directory: Path, callback: Callback
) -> list[int]:
    """Trains, and returns which batches the backend was given, in their order."""
    from train.backends.deepspeed_backend import DeepSpeedBackend
    from train.backends.flax_backend import FlaxBackend

    found: list[bytes] = []
    kind: Any = FlaxBackend if train is train_flax.train else DeepSpeedBackend
    with pytest.MonkeyPatch.context() as patch:
        start = kind.start

        def starting(backend: Any, weights: Any) -> None:
            start(backend, weights)
            if "step" not in vars(backend):
                _recording(backend, found)

        patch.setattr(kind, "start", starting)
        train(config, directory, [callback])
    loader = training_batches(config, config.data.load().train)
    seeds = [batch_of(config, loader, number).seeds.tobytes() for number in range(40)]
    return [seeds.index(batch) for batch in found]


@pytest.mark.parametrize(("trainer", "stage"), _STAGES)
def test_a_run_that_is_rolled_back_goes_on_with_other_data(
    trainer: str, stage: int, tmp_path: Path
) -> None:
    train = TRAINERS[trainer]
    config = sower_config(checkpoint={"every_steps": 2}, zero={"stage": stage})
    answering = Answering(at_1=RollBack("first"), at_3=RollBack("second"), at_4=Save())
    batches = _batches_of(train, config, tmp_path / "run", answering)
    # From the beginning, from the checkpoint after 2 steps; batch 0 and 3 are passed over.
    assert batches == [0, 1, 2, 3, 4, 5, 6, 7]
    assert answering.of(RolledBack) == [
        RolledBack(step=1, to_step=0, number=1, reason="first"),
        RolledBack(step=3, to_step=2, number=2, reason="second"),
    ]
    assert [event.step for event in answering.of(Stepped)] == [1, 1, 2, 3, 3, 4, 5, 6]


@pytest.mark.parametrize(("trainer", "stage"), _STAGES)
def test_what_is_rolled_back_leaves_no_trace(
    trainer: str, stage: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that never saw the batch has the same weights."""
    train = TRAINERS[trainer]
    config = sower_config(checkpoint={"every_steps": 2}, zero={"stage": stage})
    rolled_back = Answering(at_3=RollBack("of batch 2"))
    train(config, tmp_path / "rolled_back", [rolled_back])

    def passing_over(config: TrainConfig, loader: Loader, step: int, *rest: Any, **_: Any) -> Batch:
        return batch_of(config, loader, step, *rest, shift=int(step >= 2))

    monkeypatch.setattr(training, "batch_of", passing_over)
    straight = Answering()
    train(config, tmp_path / "straight", [straight])
    assert _weights(tmp_path / "rolled_back") == _weights(tmp_path / "straight")
    losses = {event.step: event.loss for event in rolled_back.of(Stepped)}
    assert losses == {event.step: event.loss for event in straight.of(Stepped)}


def test_a_run_that_began_from_other_weights_is_rolled_back_to_them(tmp_path: Path) -> None:
    train_flax.train(sower_config(run={"seed": 5}), tmp_path / "origin")
    beginning = Beginning(init_from=tmp_path / "origin" / ARTIFACT)
    answering = Answering(at_1=RollBack("of batch 0"))
    train_flax.train(sower_config(), tmp_path / "run", [answering], beginning=beginning)
    plain = Answering()
    train_flax.train(sower_config(), tmp_path / "plain", [plain])
    first, again = answering.of(Stepped)[:2]
    # What was trained knows more than what was drawn.
    assert max(first.loss, again.loss) < plain.of(Stepped)[0].loss - 0.5


class Raising:
    """A callback of a user that has a bug."""

    def __init__(self, kind: type[Any], step: int):
        self._kind, self._step = kind, step

    def __call__(self, event: Event) -> None:
        if isinstance(event, self._kind) and event.step == self._step:
            raise KeyError("accuraccy")


def test_a_callback_that_raises_is_named_and_the_run_is_saved(train: Train, tmp_path: Path) -> None:
    config = sower_config(checkpoint=_NO_SAVES)
    heard = Answering()
    with pytest.raises(CallbackError) as failed:
        train(config, tmp_path / "run", [Raising(Stepped, 3), heard])
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000000000003"
    assert str(failed.value) == (
        "callback Raising failed at Stepped: KeyError: 'accuraccy'; after 3 steps the run was "
        f"saved in {checkpoint}"
    )
    assert isinstance(failed.value.__cause__, KeyError)
    assert heard.of(Stepped)[-1].step == 2  # what comes after it hears no more
    again = Answering()
    train(config, tmp_path / "run", [again])
    assert [event.step for event in again.of(Resumed)] == [3]
    train(config, tmp_path / "whole")
    assert _weights(tmp_path / "run") == _weights(tmp_path / "whole")


def test_a_callback_that_raises_at_the_end_has_nothing_published(tmp_path: Path) -> None:
    config = sower_config(checkpoint={"every_steps": 2})
    with pytest.raises(CallbackError, match="callback Raising failed at Evaluated: KeyError"):
        train_flax.train(config, tmp_path / "run", [Raising(Evaluated, NUM_STEPS)])
    assert not (tmp_path / "run" / ARTIFACT).exists()
    train_flax.train(config, tmp_path / "run")
    assert (tmp_path / "run" / ARTIFACT).exists()


def test_a_callback_that_raises_ends_all_ranks(tmp_path: Path) -> None:
    config = short_config(num_steps=4)
    with pytest.raises(CallbackError, match="callback Raising failed .* was saved in "):
        train_torch.train(config, tmp_path / "run", [Raising(Stepped, 2)], world_size=2)
    assert _steps(tmp_path / "run") == [2]


def test_a_run_stops_early_and_publishes_its_best(train: Train, tmp_path: Path) -> None:
    config = sower_config(
        run={"num_steps": 60},
        optimizer={"adamw": {"learning_rate": 0.3}},  # it soon gets worse
        schedule={"final_fraction": 1.0},
        evaluation={"every_steps": 1},
        callbacks={"early_stopping": {"patience": 3, "metric": "loss_nats"}},
        checkpoint=_NO_SAVES,
    )
    heard = Answering()
    publication = train(config, tmp_path / "run", [heard])
    [stopped] = heard.of(Stopped)
    on_the_way = [event for event in heard.of(Evaluated) if not event.is_final]
    losses = [event.metrics["loss_nats"] for event in on_the_way]
    best = int(np.argmin(losses))
    assert stopped.step == len(losses) == best + 1 + 3
    assert stopped.reason == (
        f"loss_nats has not improved in 3 evaluations; the best was {losses[best]:.4f}"
    )
    assert publication.artifact.training_run.steps == best + 1
    [final] = [event for event in heard.of(Evaluated) if event.is_final]
    assert final.metrics["loss_nats"] == pytest.approx(losses[best], rel=1e-6)


def test_the_best_checkpoints_stay(tmp_path: Path) -> None:
    config = sower_config(
        run={"num_steps": 12},
        optimizer={"adamw": {"learning_rate": 0.3}},
        evaluation={"every_steps": 2},
        checkpoint={**_NO_SAVES, "keep_last": 1, "keep_best": 2, "keep_best_metric": "loss_nats"},
    )
    heard = Answering()
    train_flax.train(config, tmp_path / "run", [heard])
    losses = {
        event.step: event.metrics["loss_nats"]
        for event in heard.of(Evaluated)
        if not event.is_final
    }
    best = sorted(losses, key=lambda step: losses[step])[:2]
    assert set(best) <= set(_steps(tmp_path / "run")) <= {*best, heard.of(Saved)[-1].step}
