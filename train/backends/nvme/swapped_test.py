"""A run that keeps state and weights in files is, to the bit, the run that keeps them in memory.

So is one that goes on from the other's checkpoint, whatever it offloads, and wherever the
optimizer's groups are cut.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deepspeed.ops.op_builder import AsyncIOBuilder

from models.testing.parity import stirred
from train.backends.deepspeed_backend import DeepSpeedBackend
from train.backends.nvme.swapped import swapped_groups
from train.config.schema import ConfigError, TrainConfig
from train.launch.process_group import join_alone
from train.recipe import batch_of, step_scalars, training_batches

_NUM_STEPS, _SAVED_AFTER = 5, 3

Weights = Mapping[str, np.ndarray]


def _config(folder: Path, zero: Mapping[str, Any], optimizer: str = "adamw") -> TrainConfig:
    zero = {
        key: {**value, "nvme_path": str(folder)} if value == {"device": "nvme"} else value
        for key, value in zero.items()
    }
    return TrainConfig.model_validate(
        {
            "artifact": {"name": "swapped"},
            "run": {"seed": 0, "num_steps": _NUM_STEPS},
            "model": {
                "architecture": "mlp",
                "config": {
                    "input": {"vector": {"shape": [64]}},
                    # DeepSpeed leaves less than 1 MiB in memory, and has buffers for 5 weights.
                    "hidden_sizes": [512, 520, 512],
                    "num_blocks": 1,
                    "num_classes": 3,
                },
            },
            "data": {
                "source": "mixture",
                "options": {"num_features": 64, "num_classes": 3},
                "global_batch_size": 8,
                "gradient_accumulation_steps": 2,
            },
            "optimizer": {
                "name": optimizer,
                optimizer: {"learning_rate": 0.01, "weight_decay": 0.1},
            },
            "schedule": {"warmup_steps": 1},
            "zero": {"stage": 3, **zero},
        }
    )


_NVME = {"device": "nvme"}
_IN_MEMORY: dict[str, Any] = {}
_STATE_IN_FILES = {"offload_optimizer": _NVME}
_ALL_IN_FILES = {"offload_optimizer": _NVME, "offload_param": _NVME}
_CUT = {"sub_group_size": 100_000}


class _Run:
    """One backend, from the weights that all of them begin with."""

    def __init__(self, config: TrainConfig):
        self.config = config
        self.backend = DeepSpeedBackend(config)
        self.backend.start(stirred(config.model.network.weights(config.model.config), "float32"))

    def steps(self, first: int, end: int) -> Weights:
        loader = training_batches(self.config, self.config.data.load().train)
        scalars = step_scalars(self.config, _NUM_STEPS)
        for step in range(first, end):
            batch = batch_of(self.config, loader, step, self.backend.share)
            self.backend.step(batch, scalars(step))
        return self.backend.weights()

    @property
    def num_swapped(self) -> int:
        return len(swapped_groups(self.backend._engine))


@contextmanager
def _run(folder: Path, zero: Mapping[str, Any], optimizer: str = "adamw") -> Iterator[_Run]:
    join_alone()
    run = _Run(_config(folder, zero, optimizer))
    with closing(run.backend):
        yield run


def _whole(folder: Path, zero: Mapping[str, Any], optimizer: str = "adamw") -> Weights:
    with _run(folder, zero, optimizer) as run:
        return run.steps(0, _NUM_STEPS)


def _assert_same(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        np.testing.assert_array_equal(found[name], weight, err_msg=name)


@pytest.mark.parametrize(
    ("zero", "optimizer"),
    [
        (_STATE_IN_FILES, "adan"),
        ({"offload_param": _NVME}, "adamw"),
        ({**_ALL_IN_FILES, **_CUT}, "lion"),
    ],
    ids=["state", "weights", "both, cut"],
)
def test_is_the_run_in_memory(tmp_path: Path, zero: dict[str, Any], optimizer: str) -> None:
    expected = _whole(tmp_path, _IN_MEMORY, optimizer)
    with _run(tmp_path, zero, optimizer) as run:
        found = run.steps(0, _NUM_STEPS)
        files = [path for path in tmp_path.rglob("*.swp") if path.stat().st_size]
        assert files
        assert AsyncIOBuilder().load().__file__.endswith("/train/backends/nvme/deepspeed_ops.so")
        assert (run.num_swapped > 0) == ("offload_optimizer" in zero)
    _assert_same(found, expected)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_ALL_IN_FILES, _ALL_IN_FILES),
        (_STATE_IN_FILES, {"stage": 1}),
        (_IN_MEMORY, _ALL_IN_FILES),
        ({**_STATE_IN_FILES, **_CUT}, {"offload_optimizer": {"device": "cpu"}}),
    ],
    ids=["goes on", "to stage 1", "from memory", "cut, to the CPU"],
)
def test_goes_on_from_a_checkpoint(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    expected = _whole(tmp_path, _IN_MEMORY)
    saved = tmp_path / "saved" / "state"
    with _run(tmp_path, first) as run:
        run.steps(0, _SAVED_AFTER)
        run.backend.save(saved)()
        _assert_same(run.steps(_SAVED_AFTER, _NUM_STEPS), expected)  # saving changes nothing
    with _run(tmp_path, second) as run:
        run.backend.load(saved)
        _assert_same(run.steps(_SAVED_AFTER, _NUM_STEPS), expected)


def test_starts_again(tmp_path: Path) -> None:
    """As a run does that is rolled back."""
    expected = _whole(tmp_path, _IN_MEMORY)
    with _run(tmp_path, _ALL_IN_FILES) as run:
        run.steps(0, 1)
        run.backend.save(tmp_path / "saved" / "state")()
        run.steps(1, 3)
        config = run.config.model
        run.backend.start(stirred(config.network.weights(config.config), "float32"))
        run.backend.load(tmp_path / "saved" / "state")
        _assert_same(run.steps(1, _NUM_STEPS), expected)


def test_a_disk_that_is_not_there_is_refused(tmp_path: Path) -> None:
    join_alone()
    with pytest.raises(ConfigError) as error:
        DeepSpeedBackend(_config(tmp_path / "absent", _STATE_IN_FILES))
    assert "zero.offload_optimizer.nvme_path: expected a directory that can be" in str(error.value)
