"""A clock that is set back, between runs and while one goes on, changes nothing that is learnt."""

import datetime as plain
import sys
import time
from datetime import timedelta, tzinfo
from pathlib import Path

import pytest

from train import train_flax
from train.checkpoint.beginning import Beginning
from train.checkpoint.run_directory import DESCRIPTION
from train.checkpoint.store import CheckpointStore
from train.testing.sower.resumed_runs import flax_pair
from train.testing.sower.runs import sower_config

_STARTED = plain.datetime.now().astimezone()


class _Backwards(plain.datetime):
    """Each time it is asked, it is an hour earlier."""

    asked = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> plain.datetime:  # type: ignore[override]
        cls.asked += 1
        return (_STARTED - timedelta(hours=cls.asked)).astimezone(tz)


class _Stopped(plain.datetime):
    """It is always the same time."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> plain.datetime:  # type: ignore[override]
        return _STARTED.astimezone(tz)


def _patch(monkeypatch: pytest.MonkeyPatch, clock: type[plain.datetime]) -> None:
    """Has all of ours read another clock."""
    for name, module in list(sys.modules.items()):
        is_ours = name.partition(".")[0] in {"base", "data", "models", "registry", "train"}
        if is_ours and getattr(module, "datetime", None) is plain.datetime:
            monkeypatch.setattr(module, "datetime", clock)
    monkeypatch.setattr(time, "time", lambda: clock.now().timestamp())


def test_a_clock_set_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = sower_config(checkpoint={"every_steps": 1, "keep_last": 2})
    _patch(monkeypatch, _Backwards)
    whole, resumed = flax_pair(config, tmp_path, ends=(2, 4))
    assert whole == resumed
    store = CheckpointStore(tmp_path / "resumed" / "checkpoints")
    assert store.steps() == [4, 5]
    times = [store.verified(step).manifest.saved_at for step in store.steps()]
    assert times[0] > times[1]  # the clock was heard


def test_what_is_set_aside_at_the_same_time_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _patch(monkeypatch, _Stopped)
    for _ in range(3):
        train_flax.train(sower_config(), tmp_path, beginning=Beginning(fresh=True))
    aside = list((tmp_path / "set-aside").iterdir())
    assert len(aside) == 2
    assert all((path / DESCRIPTION).exists() and (path / "artifact").is_dir() for path in aside)
