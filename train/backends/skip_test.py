"""A step that is skipped changes nothing: weights, state, statistics, nor what is carried over.

One is if gradients overflow in float16, or if its loss is above a limit.
"""

import os
from typing import Any

import jax
import numpy as np
import pytest

from comm.testing import ranks, zero_engines
from models.weights import init_weights
from train.checkpoint.course import Course
from train.config.schema import TrainConfig
from train.loss_scale import LossScale
from train.recipe import Batch, batch_of, step_scalars, training_batches
from train.testing.sower.runs import sower_config

# Takes effect until JAX starts.
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_disable_most_optimizations", True)

_STAGES = (0, 1, 2, 3)
_RUNS = [(stage, cause) for stage in _STAGES for cause in ("overflow", "spike")]
_TOO_LARGE = np.float32(2.0**120)
_OVERFLOWING = LossScale(_TOO_LARGE, np.int32(0), np.int32(1))
_GOOD_STEPS = 2


_CAUSES: dict[str, dict[str, Any]] = {
    "overflow": {"precision": {"dtype": "float16", "loss_scaling": {"initial_scale": 64.0}}},
    "spike": {"callbacks": {"watch": {"on_spike": "skip"}}},
}


def _config(cause: str, **sections: Any) -> TrainConfig:
    return sower_config(
        **_CAUSES[cause],
        gradient_compression={"enabled": True, "min_size": 16},
        data={"gradient_accumulation_steps": 2},
        ema={"decay": 0.9},
        **sections,
    )


def _course(cause: str) -> Course:
    """Returns one by which the loss of every step is a spike, if that is to be the cause."""
    return Course(loss_limit=0.5) if cause == "spike" else Course()


def _batches(config: TrainConfig, share: slice) -> list[Batch]:
    loader = training_batches(config, config.data.load().train)
    return [batch_of(config, loader, step, share) for step in range(_GOOD_STEPS + 1)]


@pytest.mark.parametrize("cause", _CAUSES)
def test_flax(cause: str) -> None:
    from train.backends.flax_backend import FlaxBackend

    config = _config(cause)
    backend = FlaxBackend(config, world_size=2)
    backend.start(init_weights(config.model, 0))
    scalars = step_scalars(config, num_steps=10)
    *good, last = _batches(config, backend.share)
    for step, batch in enumerate(good):
        assert float(backend.step(batch, scalars(step)).metrics["skipped"]) == 0.0
    before = jax.tree.map(np.array, backend._state)
    assert any(x.any() for x in jax.tree.leaves(before.gradients))  # something is carried over
    if cause == "overflow":
        backend._state = backend._state._replace(
            loss_scale=jax.tree.map(jax.numpy.asarray, _OVERFLOWING)
        )
    result = backend.step(last, scalars(_GOOD_STEPS, _course(cause)))
    assert float(result.metrics["skipped"]) == 1.0
    after = jax.tree.map(np.array, backend._state)
    if cause == "overflow":
        assert float(after.loss_scale.factor) == _TOO_LARGE / 2
    unchanged = after._replace(loss_scale=before.loss_scale)
    jax.tree.map(np.testing.assert_array_equal, unchanged, before)


def _held(backend: Any) -> dict[str, np.ndarray]:
    """Returns all that this rank keeps from step to step."""
    held = {f"average of {name}": value for name, value in backend.weights().items()}
    module = backend._engine.module
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        held[name] = getattr(tensor, "ds_tensor", tensor).detach().numpy().copy()
    states = backend._optimizer.state.values()
    for number, state in enumerate(states):
        held |= {f"{number} {name}": value.numpy().copy() for name, value in state.items()}
    for name, feedback in backend._compression.residuals.feedbacks.items():
        for place, span in enumerate(feedback.held()):
            held[f"{name} carried {place}"] = span.buffer.numpy().copy()
    return held


def _changed(rank: int, world_size: int) -> list[tuple[float, list[str], int]]:
    from train.backends.deepspeed_backend import DeepSpeedBackend

    os.environ["LOCAL_RANK"] = str(rank)  # DeepSpeed insists on it
    found = []
    for stage, cause in _RUNS:
        config = _config(cause, zero={"stage": stage})
        backend = DeepSpeedBackend(config)
        backend.start(init_weights(config.model, 0))
        scalars = step_scalars(config, num_steps=10)
        *good, last = _batches(config, backend.share)
        for step, batch in enumerate(good):
            backend.step(batch, scalars(step))
        before = _held(backend)
        if cause == "overflow":
            assert backend._scaler is not None
            backend._scaler.state = _OVERFLOWING
        result = backend.step(last, scalars(_GOOD_STEPS, _course(cause)))
        after = _held(backend)
        changed = [name for name in before if before[name].tobytes() != after[name].tobytes()]
        carried = sum(value.any() for name, value in before.items() if "carried" in name)
        found.append((float(result.metrics["skipped"]), changed, int(carried)))
        assert before.keys() == after.keys()
    return found


@pytest.fixture(scope="module")
def of_ranks() -> list[list[tuple[float, list[str], int]]]:
    zero_engines.preload()
    return ranks.run(_changed, 2)


@pytest.mark.parametrize(("stage", "cause"), _RUNS)
def test_deepspeed(
    of_ranks: list[list[tuple[float, list[str], int]]], stage: int, cause: str
) -> None:
    for rank in of_ranks:
        skipped, changed, carried = rank[_RUNS.index((stage, cause))]
        assert (skipped, changed) == (1.0, [])
        assert carried > 0
