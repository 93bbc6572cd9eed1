"""Who takes part in the benchmark of optimizers, and what each does in a step.

Every side updates the weights of a transformer by the same gradients, again and again: the time of
a step does not depend on the numbers, which the first step of all sides is compared in.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import bitsandbytes
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytorch_optimizer
import torch

from benchmarks.harness.timing import Step
from benchmarks.optim import cases
from benchmarks.optim.cases import Model
from optim.algorithm import Algorithm
from optim.jax import fused
from optim.jax.transformation import transformation
from optim.registry import ALGORITHMS
from optim.torch.optimizer import Optimizer

_RATE = 1e-3


class Side(NamedTuple):
    """One optimizer over one model.

    Attributes:
      step: updates the weights; `arrays` are the weights.
      state_bytes: counts the bytes of its state.
    """

    step: Step
    state_bytes: Callable[[], int]


def _draw(model: Model) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns weights and gradients, float32."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape, np.float32) for shape in model.shapes]
    return weights, [1e-2 * rng.standard_normal(shape, np.float32) for shape in model.shapes]


def sides(framework: str, name: str, model: Model) -> Iterator[tuple[str, Side]]:
    """Yields the sides of an algorithm, ours first, all without decay.

    Args:
      framework: TORCH or JAX.
      name: of the algorithm.
      model: whose weights are updated.
    """
    weights, grads = _draw(model)
    make, optimizers = (
        (_torch_side, _torch_optimizers(name))
        if framework == cases.TORCH
        else (_jax_side, _jax_optimizers(name))
    )
    for side, optimizer in optimizers.items():
        yield side, make(optimizer, weights, grads)


def _rule(name: str, state_bits: int = 32) -> Algorithm:
    settings: dict[str, Any] = {"learning_rate": _RATE, "weight_decay": 0.0}
    return ALGORITHMS[name](**settings, state_bits=state_bits)


def _torch_optimizers(name: str) -> dict[str, Callable[[Any], torch.optim.Optimizer]]:
    found: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
        cases.OURS: partial(Optimizer, algorithm=_rule(name)),
        cases.OURS_8_BITS: partial(Optimizer, algorithm=_rule(name, 8)),
    }
    if name == "adamw":
        adamw = partial(torch.optim.AdamW, lr=_RATE, weight_decay=0.0)
        found |= {
            cases.FOREACH: partial(adamw, foreach=True),
            cases.FUSED: partial(adamw, fused=True),
        }
    theirs = {"lion": "Lion", "adan": "Adan", "adabelief": "AdaBelief"}
    if name in theirs:
        kind = getattr(pytorch_optimizer, theirs[name])
        found[cases.PYTORCH_OPTIMIZER] = partial(kind, lr=_RATE, weight_decay=0.0, foreach=True)
    theirs = {"adamw": "AdamW", "lion": "Lion"}
    if name in theirs:
        settings = {"lr": _RATE, "weight_decay": 0.0}
        for side, suffix in ((cases.BITSANDBYTES, "32bit"), (cases.BITSANDBYTES_8_BITS, "8bit")):
            kind = getattr(bitsandbytes.optim, theirs[name] + suffix)
            found[side] = partial(kind, **settings)
    return found


def _torch_side(
    make: Callable[[Any], torch.optim.Optimizer],
    weights: list[np.ndarray],
    grads: list[np.ndarray],
) -> Side:
    params = [torch.from_numpy(weight.copy()).requires_grad_() for weight in weights]
    for param, grad in zip(params, grads, strict=True):
        param.grad = torch.from_numpy(grad)
    optimizer = make(params)

    def state_bytes() -> int:
        # Of as many numbers as there are weights, or of blocks of them: no tables, no counters.
        tensors = [
            x
            for param in params
            for key, x in optimizer.state[param].items()
            if torch.is_tensor(x) and key != "step" and not key.startswith("qmap")
        ]
        return sum(x.numel() * x.element_size() for x in tensors)

    return Side(
        Step(optimizer.step, arrays=lambda _: [param.detach().numpy() for param in params]),
        state_bytes,
    )


def _jax_optimizers(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        cases.OURS: _rule(name),
        cases.OURS_8_BITS: _rule(name, 8),
        cases.OURS_IN_XLA: transformation(_rule(name)),
    }
    if name != "sophia":
        make = getattr(optax, name)
        found[cases.OPTAX] = make(_RATE) if name != "adamw" else make(_RATE, weight_decay=0.0)
    if name == "lion":
        found[cases.OPTAX] = optax.lion(_RATE, weight_decay=0.0)
    return found


def _jax_side(optimizer: Any, weights: list[np.ndarray], grads: list[np.ndarray]) -> Side:
    update: Callable[[Any, Any, Any], Any]
    device_grads = [jnp.asarray(grad) for grad in grads]
    params = [jnp.array(weight) for weight in weights]
    if isinstance(optimizer, Algorithm):
        state = transformation(optimizer).init(params)
        update = partial(fused.step, optimizer)
    else:
        state = optimizer.init(params)

        def update_in_two(params: Any, state: Any, grads: Any) -> Any:
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        update = update_in_two

    compiled = jax.jit(update, donate_argnums=(0, 1))
    held = {"now": (params, state)}

    def run() -> Any:
        held["now"] = compiled(*held["now"], device_grads)
        return held["now"]

    def state_bytes() -> int:
        return sum(x.nbytes for x in jax.tree.leaves(held["now"][1]) if x.ndim)

    return Side(
        Step(run, jax.block_until_ready, lambda result: [np.array(x) for x in result[0]]),
        state_bytes,
    )


def error_in_rates(weights: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Returns how far weights are from others after a step, in learning rates."""
    pairs = zip(weights, expected, strict=True)
    return float(max(np.abs(a - b).max() for a, b in pairs)) / _RATE
