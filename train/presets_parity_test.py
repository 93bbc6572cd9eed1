"""Every preset is one function in both frameworks, and trains to equal losses for fifty steps.

Batches are small and texts short, so that most of the time is not compilation alone.
"""

import jax
import numpy as np
import pytest

from models.testing.parity import Record, apart, assert_same, of_flax, of_torch, stirred
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

# Of losses. Rounding feeds back from step to step. Measured: 3e-5 at the most.
TOLERANCE = 1e-3

# Of one pass there and back, relative to the largest value; there it is of a few examples.
VALUES, GRADIENTS, NUM_EXAMPLES = 1e-5, 1e-4, 2

_SHORT = [
    f"run.num_steps={NUM_STEPS}",
    "run.num_epochs=",
    "schedule.warmup_steps=10",
    "data.global_batch_size=8",
    "zero={}",
    "torch.num_threads=1",
]
_SHORTER = {
    # At the preset's rate a change of its weights by 6e-8 moves PyTorch's own losses by 1e-2 in as
    # many steps, so that no two orders of adding up agree.
    "mnist_cnn": ["data.global_batch_size=32", "optimizer.adamw.learning_rate=5e-4"],
    **{
        name: ["model.config.input.tokens.seq_len=64", "data.options.seq_len=64"]
        for name in ("bytes", "recall")
    },
}


@pytest.fixture(
    scope="module", params=sorted(PRESETS_DIR.glob("*.yaml")), ids=lambda path: path.stem
)
def config(request: pytest.FixtureRequest) -> TrainConfig:
    """Each preset in turn; tests of one follow on one another."""
    path = request.param
    return load_config(path, [*_SHORT, *_SHORTER.get(path.stem, ())])


def _losses(backend: Backend, config: TrainConfig) -> list[float]:
    backend.start(init_weights(config.model, config.run.seed))
    loader = training_batches(config, config.data.load().train)
    scalars = step_scalars(config, NUM_STEPS)
    results = [
        backend.step(batch_of(config, loader, step, backend.share), scalars(step))
        for step in range(NUM_STEPS)
    ]
    return [float(result.loss) for result in results]


def test_a_pass_is_the_same(config: TrainConfig, record_property: Record) -> None:
    network, section = config.model.network, config.model.config
    weights = stirred(network.weights(section), "float32", scale=0.02)
    batch = batch_of(config, training_batches(config, config.data.load().train), 0)
    seeds = np.arange(NUM_EXAMPLES, dtype=np.int32)
    context = {"train": True, "seeds": seeds, "keep_values": True}
    inputs = batch.inputs[:NUM_EXAMPLES]
    flax = of_flax(lambda: network.flax(section), weights, inputs, context)
    torch = of_torch(lambda: network.torch(section), weights, inputs, context)
    assert_same(flax, torch, values=VALUES, gradients=GRADIENTS, record=record_property)


def test_fifty_steps_give_the_same_losses(config: TrainConfig, record_property: Record) -> None:
    join_alone()
    flax = _losses(FlaxBackend(config, world_size=1), config)
    torch = _losses(DeepSpeedBackend(config), config)
    difference = np.abs(np.subtract(flax, torch)).max()
    record_property("losses", f"{flax[0]:.4f} to {flax[-1]:.4f}")
    record_property("apart", apart(difference, TOLERANCE))
    assert difference < TOLERANCE
