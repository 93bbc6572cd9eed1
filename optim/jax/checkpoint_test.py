"""From a checkpoint of orbax, training goes on bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from optim.algorithm import Algorithm
from optim.jax.transformation import matrices, transformation
from optim.jax.ways import WAYS
from optim.registry import ALGORITHMS, algorithm

# Two that are stored in bytes if asked, and two that are not.
_SHAPES = {"kernel": (70, 71), "bias": (71,), "scale": (), "table": (130, 40)}

# Any two of way, algorithm, size of state and dtype meet in some case.
_CASES = [
    (WAYS[(half + index // 2) % 2], name, bits, (jnp.float32, jnp.bfloat16)[(half + index) % 2])
    for index, name in enumerate(ALGORITHMS)
    for half, bits in enumerate((32, 8))
]

_SCHEDULE = optax.linear_schedule(0.02, 0.01, 10)


def _draw(seed: int, dtype: Any) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {key: jnp.asarray(rng.standard_normal(shape), dtype) for key, shape in _SHAPES.items()}


def _train(
    step: Callable[..., Any], rule: Algorithm, content: tuple[Any, Any], start: int, stop: int
) -> tuple[Any, Any]:
    params, state = content
    for index in range(start, stop):
        grads = _draw(index, params["kernel"].dtype)
        more = {}
        if rule.wants_curvature(index):
            more["curvature"] = jax.tree.map(jnp.square, grads)
        params, state = step(params, state, grads, **more)
    return params, state


@pytest.mark.parametrize(("way", "name", "state_bits", "dtype"), _CASES)
def test_goes_on_bit_for_bit(
    way: Any, name: str, state_bits: int, dtype: Any, tmp_path: Path
) -> None:
    every = {"curvature_every": 3} if name == "sophia" else {}
    rule = algorithm(name, weight_decay=0.1, state_bits=state_bits, **every)

    @jax.jit
    def step(params: Any, state: Any, grads: Any, **more: Any) -> Any:
        return way(rule, params, state, grads, learning_rate=_SCHEDULE, mask=matrices, **more)

    params = _draw(100, dtype)
    content = params, transformation(rule).init(params)
    half = _train(step, rule, content, 0, 4)
    kinds = {x.dtype.name for x in jax.tree.leaves(half[1].slots)}
    assert kinds == ({"float32", "uint8"} if state_bits == 8 else {"float32"})
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "4", half)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "4", jax.eval_shape(lambda: content))

    whole, resumed = (_train(step, rule, content, 4, 10) for content in (half, restored))
    assert jax.tree.structure(whole) == jax.tree.structure(resumed)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()
