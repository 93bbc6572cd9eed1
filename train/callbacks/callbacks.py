"""Who hears of a run, in which order, and what they answer."""

import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from train.events import Action, Callback, Event, Tell


class CallbackError(Exception):
    """A callback that failed, by name; what it was told, and of what it failed."""


class Stateful(ABC):
    """A callback whose later answers depend on what it has heard; a checkpoint has its state."""

    @abstractmethod
    def __call__(self, event: Event) -> Action | Sequence[Action] | None:
        """Hears an event, and may answer."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Returns what it needs to go on, as JSON can hold it."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` returned."""


class Closing(ABC):
    """A callback that holds something, such as a file or a port, as long as its run goes on."""

    @abstractmethod
    def __call__(self, event: Event) -> Action | Sequence[Action] | None:
        """Hears an event, and may answer."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of it; called once, after the last event, however the run ends."""


class Callbacks:
    """The callbacks of a run, on its first rank.

    Nothing that one of them does interrupts the run at once: what they answer, and the first
    failure, waits until the loop takes it, between two steps. Only what they `Tell` all others hear
    before anything else.

    Args:
        callbacks: By name, in the order in which they hear of each event.
    """

    def __init__(self, callbacks: Mapping[str, Callback]):
        self._callbacks = dict(callbacks)
        self._answers: list[Action] = []
        self._failure: CallbackError | None = None
        self._initial = self.state()

    def tell(self, event: Event) -> None:
        """Tells all of them, in their order; one that failed hears no more, nor do the others."""
        events = deque([event])
        while events:
            for answer in self._answers_to(events.popleft()):
                if isinstance(answer, Tell):
                    events.append(answer.event)
                else:
                    self._answers.append(answer)

    def _answers_to(self, event: Event) -> list[Action]:
        answers: list[Action] = []
        for name, callback in self._callbacks.items():
            if self._failure is not None:
                break
            try:
                answers += _actions(callback(event))
            except CallbackError as error:  # of another process, where it was named
                self._failure = error
            except Exception as error:
                self._fail(name, f"failed at {type(event).__name__}", error)
        return answers

    def take_answers(self) -> list[Action]:
        """Returns what was answered since it was last asked, in that order."""
        answers, self._answers = self._answers, []
        return answers

    @property
    def failure(self) -> CallbackError | None:
        """Of the first callback that failed; None: none has."""
        return self._failure

    def state(self) -> dict[str, dict[str, Any]]:
        """Returns copies of the states of those that have one, by name."""
        states = {}
        for name, callback in self._callbacks.items():
            if isinstance(callback, Stateful):
                try:
                    states[name] = json.loads(json.dumps(callback.state(), allow_nan=False))
                except Exception as error:
                    self._fail(name, "has no state that can be saved", error)
        return states

    def restore(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        """Has each go on from its state; one that had none begins anew, whatever it has heard."""
        for name, callback in self._callbacks.items():
            state = states.get(name, self._initial.get(name))
            if isinstance(callback, Stateful) and state is not None:
                callback.restore(state)

    def close(self) -> None:
        """Has all let go of what they hold."""
        for callback in self._callbacks.values():
            if isinstance(callback, Closing):
                callback.close()

    def _fail(self, name: str, how: str, error: Exception) -> None:
        self._failure = CallbackError(f"callback {name} {how}: {type(error).__name__}: {error}")
        self._failure.__cause__ = error


def _actions(answer: Action | Sequence[Action] | None) -> Sequence[Action]:
    """Returns an answer as a sequence."""
    actions = answer if isinstance(answer, list | tuple) else () if answer is None else (answer,)
    for action in actions:
        if not isinstance(action, Action):
            raise TypeError(
                f"answered {action!r}; expected None or an action, such as Stop(reason)"
            )
    return actions


def named(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """Returns callbacks by the name of their function or class, numbered if several have one."""
    found: dict[str, Callback] = {}
    for callback in callbacks:
        name = getattr(callback, "__qualname__", type(callback).__qualname__)
        number = sum(other.partition(" #")[0] == name for other in found) + 1
        found[name if number == 1 else f"{name} #{number}"] = callback
    return found
