"""A run that other ranks go on with learns what it would have learnt on those that began it."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import pytest

from base import interrupts
from comm.testing import ranks, zero_engines
from optim.adan import Adan
from optim.sophia import Sophia
from train import train_flax, train_torch
from train.config.schema import TrainConfig
from train.events import Event, Stepped
from train.testing.sower.runs import NUM_STEPS, sower_config

# Takes effect until JAX starts.
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_disable_most_optimizations", True)

# Of losses of about 1; of a run of which something is rounded to 8 bits otherwise than before.
TOLERANCE, _ROUNDED = 1e-5, 0.01

# Steps on the ranks that begin.
_FIRST = 3

_NOISY: dict[str, Any] = {
    "model": {"dropout_rate": 0.3, "stochastic_depth_rate": 0.2},
    "data": {"gradient_accumulation_steps": 2},
    "ema": {"decay": 0.7},
}
_ADAN: dict[str, Any] = {"optimizer": {"name": "adan", "adan": Adan(learning_rate=0.01)}}
_BYTES: dict[str, Any] = {
    "optimizer": {
        "name": "sophia",
        "sophia": Sophia(learning_rate=0.01, curvature_every=2, state_bits=8),
    }
}
_COMPRESSED: dict[str, Any] = {"gradient_compression": {"enabled": True, "min_size": 16}}

# What begins, on how many ranks; and how it goes on.
_Case = tuple[dict[str, Any], int, dict[str, Any], int]

_TORCH: dict[str, _Case] = {
    "stage 1": ({**_NOISY, "zero": {"stage": 1}}, 2, {}, 1),
    "stage 2, odd": ({**_NOISY, **_ADAN, "zero": {"stage": 2}}, 1, {}, 2),
    "stage 3": ({**_NOISY, "zero": {"stage": 3}}, 2, {}, 4),
    "stage 0 to 3": ({**_NOISY, **_ADAN, "zero": {"stage": 0}}, 1, {"zero": {"stage": 3}}, 2),
    "stage 3 to 1, offloaded": (
        {**_NOISY, "zero": {"stage": 3}},
        2,
        {"zero": {"stage": 1, "offload_optimizer": {"device": "cpu"}}},
        2,
    ),
    "rounded: 8 bits": ({**_NOISY, **_BYTES, "zero": {"stage": 1}}, 2, {}, 1),
    "rounded: compressed": ({**_COMPRESSED, "zero": {"stage": 0}}, 2, {"zero": {"stage": 2}}, 4),
}


class _Recorder:
    def __init__(self, end: int | None):
        self._end = end
        self.losses: dict[int, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stepped):
            self.losses[event.step] = event.loss
            if event.step == self._end:
                interrupts.ask(signal.SIGTERM)


def _train_rank(
    rank: int, _: int, runs: Sequence[tuple[Mapping[str, Any], Path, int | None]]
) -> list[dict[int, float]]:
    os.environ["LOCAL_RANK"] = str(rank)  # DeepSpeed insists on it
    found = []
    for content, directory, end in runs:
        recorder = _Recorder(end)
        config = TrainConfig.model_validate(content)
        train_torch.train_rank(config, directory, [recorder] if rank == 0 else [])
        found.append(recorder.losses)
    return found


_KINDS: tuple[tuple[str, int | None], ...] = (("whole", None), ("ended", _FIRST))


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[int, float], ...]]:
    """The losses of whole runs, and of those that others went on with, by case."""
    zero_engines.preload()
    folder = tmp_path_factory.mktemp("torch")
    found: dict[tuple[str, str], dict[int, float]] = {}
    for phase in ("first", "second"):
        for size in (1, 2, 4):
            runs, keys = [], []
            for name, (sections, first, changes, second) in _TORCH.items():
                if phase == "first" and size == first:
                    content = sower_config(**sections).model_dump()
                    runs += [(content, folder / name / kind, end) for kind, end in _KINDS]
                    keys += [(name, kind) for kind, _ in _KINDS]
                if phase == "second" and size == second:
                    content = sower_config(**{**sections, **changes}).model_dump()
                    runs.append((content, folder / name / "ended", None))
                    keys.append((name, "resumed"))
            if runs:
                of_first = ranks.run(_train_rank, size, runs)[0]
                found |= dict(zip(keys, of_first, strict=True))
    return {name: (found[name, "whole"], found[name, "resumed"]) for name in _TORCH}


def _assert_same(
    whole: Mapping[int, float], resumed: Mapping[int, float], tolerance: float = TOLERANCE
) -> None:
    assert [*resumed] == [*range(_FIRST + 1, NUM_STEPS + 1)]
    for step, loss in resumed.items():
        assert loss == pytest.approx(whole[step], rel=0, abs=tolerance), step


@pytest.mark.parametrize("name", _TORCH)
def test_torch(name: str, torch: dict[str, tuple[dict[int, float], ...]]) -> None:
    _assert_same(*torch[name], _ROUNDED if "rounded" in name else TOLERANCE)


@pytest.mark.parametrize(
    ("sections", "first", "second", "tolerance"),
    [
        (_NOISY, 2, 1, TOLERANCE),
        ({**_NOISY, **_ADAN}, 1, 2, TOLERANCE),
        (_COMPRESSED, 2, 4, _ROUNDED),
    ],
)
def test_flax(
    sections: dict[str, Any], first: int, second: int, tolerance: float, tmp_path: Path
) -> None:
    assert len(jax.devices()) == 4  # before a run asks for fewer
    config = sower_config(**sections)
    runs = []
    parts = (("whole", None, first), ("ended", _FIRST, first), ("ended", None, second))
    for name, end, size in parts:
        recorder = _Recorder(end)
        train_flax.train(config, tmp_path / name, [recorder], world_size=size)
        runs.append(recorder)
    _assert_same(runs[0].losses, runs[2].losses, tolerance)
