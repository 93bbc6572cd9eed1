"""1,000 steps of every algorithm, in both frameworks, beside the paper's formula in float64."""

from functools import cache, partial
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from optim import papers
from optim.adabelief import AdaBelief
from optim.adamw import AdamW
from optim.adan import Adan
from optim.algorithm import Algorithm
from optim.jax.transformation import transformation
from optim.jax.ways import WAYS
from optim.lion import Lion
from optim.sophia import Sophia
from optim.torch.curvature import as_it_is
from optim.torch.optimizer import Optimizer

_STEPS = 1000
_SIZE = 32
_PEAK = 1e-2

_CASES = [
    (papers.adamw, AdamW(weight_decay=0.1)),
    (papers.adamw, AdamW(beta1=0.0, beta2=0.95, epsilon=1e-3)),
    (papers.lion, Lion(weight_decay=0.3)),
    (papers.adan, Adan(weight_decay=0.1)),
    (papers.adan, Adan(weight_decay=0.1, decay="decoupled")),
    (papers.adabelief, AdaBelief(weight_decay=0.1)),
    (papers.adabelief, AdaBelief(epsilon=1e-8)),
    (papers.adabelief, AdaBelief(weight_decay=0.1, rectify=True)),
    (papers.sophia, Sophia()),
    (papers.sophia, Sophia(gamma=1.0, curvature_every=3, weight_decay=0.0)),
]
_IDS = [f"{paper.__name__}-{index}" for index, (paper, _) in enumerate(_CASES)]


class _Problem:
    """Least squares seen through noise: the gradient at `w` in step `t` is `H @ (w - w*) + n_t`."""

    def __init__(self) -> None:
        rng = np.random.default_rng(2)
        basis, _ = np.linalg.qr(rng.standard_normal((_SIZE, _SIZE)))
        self.hessian = basis @ np.diag(np.geomspace(0.01, 10.0, _SIZE)) @ basis.T
        self.target = rng.standard_normal(_SIZE)
        self.start = rng.standard_normal(_SIZE)
        self.noise = 0.3 * rng.standard_normal((_STEPS, _SIZE))
        # As large as keeps Sophia's steps stable: where they are not, every rounding grows.
        curvatures = 10.0 * (0.5 + np.abs(rng.standard_normal((_STEPS, _SIZE))))
        # Hutchinson's may be negative, and zero where the loss is flat: there Sophia divides by
        # epsilon. Of few weights: their steps are signs, and what is rounded does not decay.
        self.curvatures = curvatures * np.repeat([1.0, -1.0, 0.0], [_SIZE - 6, 3, 3])
        self.rates = _PEAK * np.cos(np.linspace(0.0, 1.5, _STEPS))


_PROBLEM = _Problem()


@cache
def _follow_paper(paper: Any, algorithm: Algorithm, problem: _Problem) -> np.ndarray:
    w, state = problem.start, {}
    path = [w]
    for step in range(_STEPS):
        g = problem.hessian @ (w - problem.target) + problem.noise[step]
        more = {}
        if algorithm.wants_curvature(step):
            more["h_hat"] = problem.curvatures[step]
        rate = problem.rates[step]
        settings = algorithm.model_dump()
        w, state = paper(w, g, state, step + 1, rate, algorithm.weight_decay, settings, **more)
        path.append(w)
    return np.stack(path)


def _follow_torch(algorithm: Algorithm, problem: _Problem, dtype: str) -> np.ndarray:
    kind = getattr(torch, dtype)
    hessian, target = (
        torch.tensor(problem.hessian, dtype=kind),
        torch.tensor(problem.target).to(kind),
    )
    noise, curvatures = torch.tensor(problem.noise).to(kind), torch.tensor(problem.curvatures)
    w = torch.tensor(problem.start, dtype=kind, requires_grad=True)
    optimizer = Optimizer([w], algorithm)
    path = [w.detach().numpy().copy()]
    for step in range(_STEPS):
        optimizer.param_groups[0]["lr"] = float(problem.rates[step])
        if algorithm.wants_curvature(step):
            w.grad = curvatures[step].to(kind)
            with optimizer.estimating_curvature(as_it_is):
                optimizer.step()
        w.grad = hessian @ (w.detach() - target) + noise[step]
        optimizer.step()
        path.append(w.detach().numpy().copy())
    return np.stack(path)


def _follow_jax(step: Any, algorithm: Algorithm, problem: _Problem, dtype: str) -> np.ndarray:
    """In one of `WAYS`."""
    with jax.enable_x64(dtype == "float64"):
        rates = jnp.asarray(problem.rates, dtype)
        hessian, target = jnp.asarray(problem.hessian, dtype), jnp.asarray(problem.target, dtype)
        has_curvature = algorithm.uses_curvature

        def advance(carry: Any, inputs: Any) -> tuple[Any, jax.Array]:
            w, state = carry
            index, noise, curvature = inputs
            g = hessian @ (w - target) + noise

            def update(**more: Any) -> Any:
                return step(algorithm, w, state, g, learning_rate=lambda n: rates[n], **more)

            if has_curvature:
                due = index % algorithm.curvature_every == 0
                w, state = jax.lax.cond(due, lambda: update(curvature=curvature), update)
            else:
                w, state = update()
            return (w, state), w

        w = jnp.asarray(problem.start, dtype)
        inputs = (
            jnp.arange(_STEPS),
            jnp.asarray(problem.noise, dtype),
            jnp.asarray(problem.curvatures, dtype),
        )
        with jax.default_matmul_precision("highest"):
            start = (w, transformation(algorithm).init(w))
            _, path = jax.jit(lambda start: jax.lax.scan(advance, start, inputs))(start)
        return np.concatenate([np.asarray(w)[None], np.asarray(path)])


_FOLLOWERS = {"torch": _follow_torch} | {way.__name__: partial(_follow_jax, way) for way in WAYS}


def _distance(path: np.ndarray, exact: np.ndarray) -> float:
    """The greatest error of a step, relative to the weights."""
    errors = np.linalg.norm(path - exact, axis=1) / np.linalg.norm(exact, axis=1)
    return float(errors.max())


@pytest.mark.parametrize(("paper", "algorithm"), _CASES, ids=_IDS)
@pytest.mark.parametrize("follow", _FOLLOWERS.values(), ids=_FOLLOWERS)
def test_float64_follows_the_paper(paper: Any, algorithm: Algorithm, follow: Any) -> None:
    exact = _follow_paper(paper, algorithm, _PROBLEM)
    assert np.linalg.norm(exact[-1] - exact[0]) > 0.1  # it went somewhere
    assert _distance(follow(algorithm, _PROBLEM, "float64"), exact) < 1e-9


@pytest.mark.parametrize(("paper", "algorithm"), _CASES, ids=_IDS)
def test_float32_follows_the_paper_and_the_other_framework(
    paper: Any, algorithm: Algorithm
) -> None:
    exact = _follow_paper(paper, algorithm, _PROBLEM)
    paths = [follow(algorithm, _PROBLEM, "float32") for follow in _FOLLOWERS.values()]
    assert max(_distance(a, b) for a, b in combinations([*paths, exact], 2)) < 1e-6
