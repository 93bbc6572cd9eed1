"""Watches over the loss of every step: what is no number, and what leaps.

A step whose update is skipped has been skipped where it was computed, before anybody here knew of
it: what its loss may be at most was given along. So nobody waits for a device, and a run that goes
on from a checkpoint skips the same steps. The limit moves after each window of steps, to what the
losses of that window say: their median, and a multiple of their spread, which a single spike does
not widen.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from train.callbacks.callbacks import Stateful
from train.config.callbacks import Policy, WatchConfig
from train.events import (
    Abort,
    Action,
    Compared,
    Event,
    LimitLoss,
    Losses,
    RollBack,
    RolledBack,
    Tell,
    Warned,
)

# Of a normal distribution, its standard deviation over its median absolute deviation.
_DEVIATION = 1.4826


class Watch(Stateful):
    """Answers the losses of steps.

    Args:
        config: What is done about which.
        scales_loss: Whether steps are skipped for their loss scale, too, which is no incident.
        advice: What to change about a run that diverges, for a human.
    """

    def __init__(self, config: WatchConfig, *, scales_loss: bool, advice: str):
        self._config = config
        self._scales_loss = scales_loss
        self._advice = advice
        self._window: list[float] = []
        self._limit = math.inf
        self._num_skipped = 0  # in a row
        self._num_rollbacks = 0

    def __call__(self, event: Event) -> Sequence[Action]:
        """See `Callback`."""
        match event:
            case Losses():
                return list(self._judge_all(event))
            case Compared():
                return list(_compare(event))
            case RolledBack():
                self._num_rollbacks = event.number
        return ()

    def state(self) -> dict[str, Any]:
        """See `Stateful`."""
        return {
            "window": self._window,
            "limit": None if math.isinf(self._limit) else self._limit,
            "num_skipped": self._num_skipped,
            "num_rollbacks": self._num_rollbacks,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Stateful`."""
        self._window = list(state["window"])
        self._limit = math.inf if state["limit"] is None else state["limit"]
        self._num_skipped, self._num_rollbacks = state["num_skipped"], state["num_rollbacks"]

    def _judge_all(self, told: Losses) -> Iterator[Action]:
        for index, loss in enumerate(told.losses):
            values = {name: column[index] for name, column in told.metrics.items()}
            answer = self._judge(told.first + index, loss, values)
            if answer is not None:
                yield answer
            if isinstance(answer, Abort | RollBack):
                return  # what came after it will not have been
            if self._config.on_spike is not None and math.isfinite(loss):
                self._window.append(loss)
                if (told.first + index) % self._config.window_steps == 0:
                    yield self._move_limit()

    def _judge(self, step: int, loss: float, values: Mapping[str, float]) -> Action | None:
        policy: Policy | None = None
        was_skipped = bool(values.get("skipped"))
        if not math.isfinite(loss):
            policy, what = self._config.on_non_finite, "the loss is no longer finite"
        elif loss > self._limit:
            policy = self._config.on_spike
            what = f"the loss is {loss:.4g}, above the limit of {self._limit:.4g},"
        elif was_skipped and not self._scales_loss:
            policy, what = "skip", "gradients are no longer finite"
        elif math.isinf(values.get("gradient_norm", 0.0)):
            policy, what = self._config.on_non_finite, "gradients are no longer finite"
        if policy is None:
            self._num_skipped = 0
            return None
        return self._answer(policy, f"{what} at step {step}")

    def _answer(self, policy: Policy, what: str) -> Action:
        if policy == "stop":
            return Abort(f"{what}; {self._advice}")
        most = self._config.max_incidents
        if policy == "skip":
            self._num_skipped += 1
            if self._num_skipped < most:
                return Tell(Warned(f"{what}; its update was skipped"))
            return Abort(f"{what}, the last of {most} that were skipped in a row; {self._advice}")
        if self._num_rollbacks < most:
            return RollBack(what)
        return Abort(f"{what}, after {most} times that the run was rolled back; {self._advice}")

    def _move_limit(self) -> LimitLoss:
        losses, self._window = np.array(self._window), []
        median = float(np.median(losses))
        deviation = _DEVIATION * float(np.median(np.abs(losses - median)))
        self._limit = median + self._config.spike_deviations * deviation
        return LimitLoss(self._limit)


def _compare(told: Compared) -> Iterator[Abort]:
    """Yields an answer that names the ranks whose weights are not those of most."""
    counts = Counter(told.digests)
    if len(counts) == 1:
        return
    (most, count), (_, next_count) = counts.most_common(2)
    others = [str(rank) for rank, digest in enumerate(told.digests) if digest != most]
    if count > next_count:
        ranks = f"rank{'s' if len(others) > 1 else ''} {', '.join(others)}"
        verb = "have" if len(others) > 1 else "has"
        what = f"{ranks} {verb} other weights than the other {count} ranks have"
    else:
        what = f"the {len(told.digests)} ranks do not have the same weights"
    yield Abort(
        f"{what} after step {told.step}, which all should have alike: a processor or its memory "
        "may be at fault; the same command goes on from the newest checkpoint"
    )
