"""Fifty steps of every preset, from the same weights and data, give both frameworks equal losses.

Batches are small and texts short, so that most of the time is not compilation alone.
"""

from pathlib import Path

import jax
import numpy as np
import pytest

from models.weights import init_weights
from train.backends.backend import Backend
from train.backends.deepspeed_backend import DeepSpeedBackend
from train.backends.flax_backend import FlaxBackend
from train.config.load import load_config
from train.config.schema import TrainConfig
from train.launch.process_group import join_alone
from train.recipe import batch_of, step_scalars, training_batches
from train.testing.example import PRESETS_DIR

jax.config.update("jax_disable_most_optimizations", True)

NUM_STEPS = 50

# Rounding feeds back from step to step. Measured: 3e-5 at the most.
TOLERANCE = 1e-3

_PRESETS = sorted(PRESETS_DIR.glob("*.yaml"))

_SHORT = [
    f"run.num_steps={NUM_STEPS}",
    "run.num_epochs=",
    "schedule.warmup_steps=10",
    "data.global_batch_size=8",
    "zero={}",
]
_SHORTER = {
    # At the preset's rate a change of its weights by 6e-8 moves PyTorch's own losses by 1e-2 in as
    # many steps, so that no two orders of adding up agree.
    "mnist_cnn": ["data.global_batch_size=32", "optimizer.adamw.learning_rate=5e-4"],
    "bytes": [
        "model.config.input.tokens.seq_len=64",
        "data.options.seq_len=64",
    ],
}


def _losses(backend: Backend, config: TrainConfig) -> list[float]:
    backend.start(init_weights(config.model, config.run.seed))
    loader = training_batches(config, config.data.load().train)
    scalars = step_scalars(config, NUM_STEPS)
    results = [
        backend.step(batch_of(config, loader, step, backend.share), scalars(step))
        for step in range(NUM_STEPS)
    ]
    return [float(result.loss) for result in results]


@pytest.mark.parametrize("path", _PRESETS, ids=lambda path: path.stem)
def test_both_frameworks_train_a_preset_to_the_same_losses(path: Path) -> None:
    config = load_config(path, [*_SHORT, *_SHORTER.get(path.stem, ())])
    join_alone()
    flax = _losses(FlaxBackend(config, world_size=1), config)
    torch = _losses(DeepSpeedBackend(config), config)
    difference = np.abs(np.subtract(flax, torch)).max()
    print(f"{path.stem}: losses from {flax[0]:.4f} to {flax[-1]:.4f}, apart by {difference:.1e}")
    assert difference < TOLERANCE
