"""One gradient that is infinite or no number makes its weight so, from then on, and no other."""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from kernels.dispatch import ENVIRONMENT_VARIABLE
from optim.algorithm import Algorithm
from optim.jax.transformation import transformation
from optim.jax.ways import WAYS
from optim.registry import ALGORITHMS, algorithm
from optim.torch.curvature import as_it_is
from optim.torch.optimizer import Optimizer

# Enough for state in 8 bits, where a block of 256 weights has one scale.
_SIZE, _BLOCK = 4200, 256

# Which gradients are spoiled, in blocks apart.
_SPOILED = {700: np.inf, 1500: -np.inf, 2300: np.nan}

_STEPS = 50


class Case(NamedTuple):
    """A gradient, or an estimate of Sophia's curvature, that is spoiled in one step."""

    name: str
    what: str
    state_bits: int
    step: int

    def arrays(self, step: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the gradient of a step, and in some the curvature."""
        grad, curvature = np.full(_SIZE, -1.0, np.float32), np.full(_SIZE, 2.0, np.float32)
        if step == self.step:
            array = grad if self.what == "gradient" else curvature
            array[list(_SPOILED)] = list(_SPOILED.values())
        has_curvature = self.name == "sophia" and step in (0, self.step)
        return grad, curvature if has_curvature else None


def _follow_torch(rule: Algorithm, case: Case) -> list[np.ndarray]:
    weight = torch.zeros(_SIZE, requires_grad=True)
    optimizer = Optimizer([weight], rule)
    path = []
    for step in range(_STEPS):
        grad, curvature = case.arrays(step)
        if curvature is not None:
            weight.grad = torch.from_numpy(curvature)
            with optimizer.estimating_curvature(as_it_is):
                optimizer.step()
        weight.grad = torch.from_numpy(grad)
        optimizer.step()
        path.append(weight.detach().numpy().copy())
    return path


@cache
def _compiled(way: Any, rule: Algorithm) -> Any:
    return jax.jit(partial(way, rule))


def _follow_jax(way: Any, rule: Algorithm, case: Case) -> list[np.ndarray]:
    weight = jnp.zeros(_SIZE)
    state = transformation(rule).init(weight)
    update = _compiled(way, rule)
    path = []
    for step in range(_STEPS):
        grad, curvature = case.arrays(step)
        more = {} if curvature is None else {"curvature": curvature}
        weight, state = update(weight, state, grad, **more)
        path.append(np.asarray(weight))
    return path


_FOLLOWERS = {"torch": _follow_torch} | {way.__name__: partial(_follow_jax, way) for way in WAYS}

# The issue's, the first step; and one of later, when there is state.
_CASES = [
    Case(name, what, state_bits, step)
    for name, what in [*((name, "gradient") for name in ALGORITHMS), ("sophia", "curvature")]
    for state_bits in (32, 8)
    for step in (0, 3)
]


@pytest.mark.parametrize("case", _CASES, ids=lambda case: "-".join(map(str, case)))
@pytest.mark.parametrize(
    ("follow", "backend"),
    [("torch", "cpu"), ("torch", "reference"), ("step", "cpu"), ("in_two", "cpu")],
)
def test_shows_in_its_weight_from_then_on(
    case: Case, follow: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, backend)
    path = _FOLLOWERS[follow](algorithm(case.name, state_bits=case.state_bits), case)
    # In 8 bits the scale of its block has it as well.
    width = 1 if case.state_bits == 32 else _BLOCK
    may = {place // width * width + i for place in _SPOILED for i in range(width)}
    for step, weights in enumerate(path):
        bad = {*np.flatnonzero(~np.isfinite(weights)).tolist()}
        if step < case.step:
            assert not bad
        else:
            assert {*_SPOILED} <= bad <= may, step
