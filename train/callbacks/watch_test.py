"""What goes wrong is found at its step, and answered as the configuration says."""

import json
import math

import numpy as np
import pytest

from train.callbacks.watch import Watch
from train.config.callbacks import WatchConfig
from train.events import (
    Abort,
    Action,
    Compared,
    LimitLoss,
    Losses,
    RollBack,
    RolledBack,
    Tell,
    Warned,
)

_NAN, _INF = float("nan"), float("inf")


def _watch(*, scales_loss: bool = False, **config: object) -> Watch:
    return Watch(WatchConfig.model_validate(config), scales_loss=scales_loss, advice="do less")


def _answers(watch: Watch, *losses: float, first: int = 1, **metrics: list[float]) -> list[Action]:
    return list(watch(Losses(first, list(losses), metrics)))


@pytest.mark.parametrize("loss", [_NAN, _INF, -_INF])
def test_a_loss_that_is_no_number_ends_the_run(loss: float) -> None:
    [answer] = _answers(_watch(), 1.0, loss, loss, first=7)
    assert answer == Abort("the loss is no longer finite at step 8; do less")


def test_losses_of_every_size_are_no_incident_unless_asked() -> None:
    assert _answers(_watch(), 1.0, 1e30, 1.0) == []


def test_gradients_that_are_no_numbers() -> None:
    [answer] = _answers(_watch(), 1.0, 1.0, gradient_norm=[2.0, _INF])
    assert answer == Abort("gradients are no longer finite at step 2; do less")
    # A norm is no number, too, of a step that was skipped.
    [answer] = _answers(
        _watch(on_non_finite="skip"), 1.0, 1.0, gradient_norm=[2.0, _NAN], skipped=[0.0, 1.0]
    )
    assert answer == Tell(
        Warned("gradients are no longer finite at step 2; its update was skipped")
    )


def test_steps_skipped_for_the_scale_of_the_loss_are_no_incident() -> None:
    skipped = [1.0] * 20
    watch = _watch(on_non_finite="skip", scales_loss=True)
    assert _answers(watch, *[1.0] * 20, skipped=skipped) == []


def test_the_limit_is_the_median_and_deviations_of_the_window_before() -> None:
    watch = _watch(on_spike="skip", window_steps=50, spike_deviations=4.0)
    losses = np.random.default_rng(0).normal(3.0, 0.2, 50)
    losses[10] = 1000.0  # which does not widen it
    [answer] = _answers(watch, *losses)
    assert isinstance(answer, LimitLoss)
    assert answer.limit == pytest.approx(3.0 + 4 * 0.2, abs=0.2)
    [warned] = _answers(watch, 3.5, 5.0, first=51, skipped=[0.0, 1.0])
    assert isinstance(warned, Tell)
    assert isinstance(warned.event, Warned)
    assert warned.event.message.startswith("the loss is 5, above the limit of 3.")
    assert warned.event.message.endswith(" at step 52; its update was skipped")


def test_the_limit_does_not_depend_on_when_it_was_looked() -> None:
    losses = np.random.default_rng(1).uniform(1.0, 2.0, 40)
    whole, pieces = (_watch(on_spike="stop", window_steps=10) for _ in range(2))
    limits = [
        a for at in range(0, 40, 10) for a in _answers(whole, *losses[at : at + 10], first=at + 1)
    ]
    others = [
        a for at in range(0, 40, 2) for a in _answers(pieces, *losses[at : at + 2], first=at + 1)
    ]
    assert len(limits) == 4
    assert limits == others


@pytest.mark.parametrize("policy", ["skip", "roll_back"])
def test_it_ends_after_too_many(policy: str) -> None:
    watch = _watch(on_non_finite=policy, max_incidents=3)
    answers = []
    for number in range(4):
        answers += _answers(watch, _NAN, first=5 + number)
        if policy == "roll_back":
            watch(RolledBack(step=5, to_step=0, number=number + 1, reason=""))
    kinds = [type(answer) for answer in answers]
    if policy == "skip":
        assert kinds == [Tell, Tell, Abort, Abort]
        assert answers[2].reason == (
            "the loss is no longer finite at step 7, the last of 3 that were skipped in a row; "
            "do less"
        )
    else:
        assert kinds == [RollBack, RollBack, RollBack, Abort]
        assert answers[3].reason == (
            "the loss is no longer finite at step 8, after 3 times that the run was rolled back; "
            "do less"
        )


def test_skips_that_are_not_in_a_row_do_not_add_up() -> None:
    watch = _watch(on_non_finite="skip", max_incidents=2)
    answers = _answers(watch, *[_NAN, 1.0] * 10)
    assert [type(answer) for answer in answers] == [Tell] * 10


def test_nothing_after_a_step_to_go_back_from_counts() -> None:
    watch = _watch(on_non_finite="roll_back", on_spike="stop", window_steps=2)
    [answer] = _answers(watch, _NAN, 1.0, 1.0)
    assert isinstance(answer, RollBack)


def test_it_goes_on_from_its_state() -> None:
    losses = np.random.default_rng(2).uniform(1.0, 2.0, 30)
    whole = _watch(on_spike="skip", window_steps=8)
    first = _watch(on_spike="skip", window_steps=8)
    expected = _answers(whole, *losses)
    found = _answers(first, *losses[:13])
    resumed = _watch(on_spike="skip", window_steps=8)
    resumed.restore(json.loads(json.dumps(first.state())))
    found += _answers(resumed, *losses[13:], first=14)
    assert found == expected
    assert math.isfinite(resumed.state()["limit"])


def test_ranks_with_other_weights_are_named() -> None:
    watch = _watch()
    assert watch(Compared(3, ["a", "a", "a"])) == []
    for digests, what in (
        (["a", "b", "a", "a"], "rank 1 has other weights than the other 3 ranks have after step 3"),
        (["c", "a", "a", "b", "a"], "ranks 0, 3 have other weights than the other 3 ranks have"),
        (["a", "b"], "the 2 ranks do not have the same weights after step 3"),
        (["a", "b", "b", "a"], "the 4 ranks do not have the same weights"),
    ):
        [answer] = watch(Compared(3, digests))
        assert isinstance(answer, Abort)
        assert answer.reason.startswith(what)
