"""Callbacks hear in their order; nothing that one of them does interrupts the run."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from train.callbacks.callbacks import CallbackError, Callbacks, Stateful, named
from train.events import Action, Event, Save, Stop, Warned

_EVENT = Warned("of nothing")


class _Counting(Stateful):
    """Counts events."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, event: Event) -> None:
        self.count += 1

    def state(self) -> dict[str, Any]:
        return {"count": self.count}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


def test_they_hear_in_their_order_and_all_answers_are_kept() -> None:
    heard: list[str] = []

    def hearing(name: str, answer: Action | Sequence[Action] | None) -> Any:
        def callback(event: Event) -> Action | Sequence[Action] | None:
            heard.append(name)
            return answer

        return callback

    callbacks = Callbacks(
        {
            "first": hearing("first", Save()),
            "second": hearing("second", None),
            "third": hearing("third", [Stop("a"), Save()]),
        }
    )
    callbacks.tell(_EVENT)
    callbacks.tell(_EVENT)
    assert heard == 2 * ["first", "second", "third"]
    assert callbacks.take_answers() == 2 * [Save(), Stop("a"), Save()]
    assert callbacks.take_answers() == []


def test_one_that_fails_is_named_and_the_others_hear_no_more() -> None:
    def failing(event: Event) -> None:
        raise ZeroDivisionError("by chance")

    before, after = _Counting(), _Counting()
    callbacks = Callbacks({"before": before, "failing": failing, "after": after})
    callbacks.tell(_EVENT)
    callbacks.tell(_EVENT)
    assert (before.count, after.count) == (1, 0)
    assert str(callbacks.failure) == (
        "callback failing failed at Warned: ZeroDivisionError: by chance"
    )
    assert isinstance(callbacks.failure, CallbackError)
    assert isinstance(callbacks.failure.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("answer", ["stop", True, Stop, [Save(), "stop"]])
def test_what_is_no_action_is_a_failure(answer: Any) -> None:
    callbacks = Callbacks({"odd": lambda event: answer})
    callbacks.tell(_EVENT)
    assert "failed at Warned: TypeError: answered " in str(callbacks.failure)
    assert "expected None or an action, such as Stop(reason)" in str(callbacks.failure)
    assert callbacks.take_answers() == []


def test_states_are_kept_by_name() -> None:
    callbacks = Callbacks({"a": _Counting(), "plain": lambda event: None, "b": _Counting()})
    callbacks.tell(_EVENT)
    assert callbacks.state() == {"a": {"count": 1}, "b": {"count": 1}}
    # One that the run has had no checkpoint of begins anew; one that is gone is passed over.
    again = Callbacks({"b": _Counting(), "new": _Counting()})
    again.restore(callbacks.state())
    assert again.state() == {"b": {"count": 1}, "new": {"count": 0}}


def test_a_run_that_is_rolled_back_to_its_beginning_begins_anew() -> None:
    callbacks = Callbacks({"a": _Counting(), "b": _Counting()})
    callbacks.tell(_EVENT)
    callbacks.restore({"b": {"count": 5}})
    assert callbacks.state() == {"a": {"count": 0}, "b": {"count": 5}}


def test_a_state_is_a_copy() -> None:
    counting = _Counting()
    counting.state = lambda: {"counts": counts}  # type: ignore[method-assign]
    counts = [1]
    state = Callbacks({"a": counting}).state()
    counts.append(2)
    assert state == {"a": {"counts": [1]}}


@pytest.mark.parametrize("odd", [{1, 2}, float("nan"), object()])
def test_a_state_that_cannot_be_saved_is_a_failure(odd: object) -> None:
    callbacks = Callbacks({"odd": _Counting(), "good": _Counting()})
    callbacks._callbacks["odd"].state = lambda: {"odd": odd}  # type: ignore[attr-defined]
    assert callbacks.state() == {"good": {"count": 0}}
    assert str(callbacks.failure).startswith("callback odd has no state that can be saved: ")


def test_they_are_named_after_what_they_are() -> None:
    def hearing(event: Event) -> None:
        pass

    first, second = _Counting(), _Counting()
    name = "test_they_are_named_after_what_they_are.<locals>.hearing"
    assert named([first, hearing, second]) == {
        "_Counting": first,
        name: hearing,
        "_Counting #2": second,
    }
