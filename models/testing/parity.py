"""Holds the two sides of a layer or a network to each other: outputs, gradients and what they sow.

Each framework is the other's oracle: they share configuration, weights and kernels, and no line of
the mathematics.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from models.context import Context
from models.flax.weights import canonical_names, load_weights, to_canonical
from models.network import Weights

Arrays = dict[str, np.ndarray]

# How a module is called: with itself, the input and the context.
Call = Callable[[Any, Any, Context], Any]

# Notes what a test measured, by name.
Record = Callable[[str, object], None]


class Pass(NamedTuple):
    """One pass there and back.

    Attributes:
        output: What was returned.
        gradients: Of `sum(output * cotangent) + sown loss`, by canonical name; "input" is among
            them if the input is of floating point.
        sown: Losses (summed), metrics (mean), statistics and values, by kind and name.
    """

    output: np.ndarray
    gradients: Arrays
    sown: Arrays


def with_context(module: Any, x: Any, context: Context) -> Any:
    """Calls a module as networks and most layers are."""
    return module(x, context)


def without_context(module: Any, x: Any, context: Context) -> Any:
    """Calls a layer that is a function of its input alone."""
    return module(x)


def stirred(weights: Weights, dtype: str, *, seed: int = 1, scale: float = 0.1) -> Arrays:
    """Returns initial weights with noise on all that trains, so that nothing hides behind zeros."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for name, weight in weights.items():
        value = weight.init(weight.shape, rng)
        noise = rng.normal(0.0, scale, weight.shape) if weight.trainable else 0.0
        drawn[name] = (value + noise).astype(dtype)
    return drawn


def cotangent_of(output: Any) -> np.ndarray:
    """Returns fixed pseudo-random numbers of the output's shape, float64."""
    return np.random.default_rng(7).normal(size=tuple(output.shape))


def of_flax(
    build: Callable[[], nnx.Module],
    weights: Mapping[str, np.ndarray],
    x: np.ndarray,
    context: Mapping[str, Any] | None = None,
    *,
    jit: bool = True,
    call: Call = with_context,
) -> Pass:
    """Runs a Flax module there and back, in the dtype of its weights.

    Args:
        build: Makes the module.
        weights: Canonical.
        x: The input, `[batch, ...]`.
        context: Fields of the `Context`, arrays in numpy; None: an evaluation.
        jit: Whether it is compiled.
        call: How it is called.
    """
    wide = any(value.dtype == np.float64 for value in [*weights.values(), x])
    with jax.enable_x64(wide):
        graph, params, rest = nnx.split(load_weights(build, weights), nnx.Param, ...)
        given = {
            key: jnp.asarray(value) if isinstance(value, np.ndarray) else value
            for key, value in (context or {}).items()
        }

        def loss(params: Any, x: jax.Array) -> tuple[jax.Array, Any]:
            ctx = Context(**given)
            output = call(nnx.merge(graph, params, rest), x, ctx)
            total = jnp.sum(output * cotangent_of(output).astype(output.dtype)) + ctx.sown.loss
            return total, (output, ctx.sown)

        floating = np.issubdtype(x.dtype, np.floating)
        grad = jax.grad(loss, argnums=(0, 1) if floating else (0,), has_aux=True)
        grads, (output, sown) = (jax.jit(grad) if jit else grad)(params, jnp.asarray(x))
        gradients = to_canonical(nnx.merge(graph, grads[0], rest))
        gradients = {name: gradients[name] for name in canonical_names(params)}
        if floating:
            gradients["input"] = np.asarray(grads[1])
        return Pass(np.asarray(output), gradients, _flat(sown, np.asarray))


def of_torch(
    build: Callable[[], torch.nn.Module],
    weights: Mapping[str, np.ndarray],
    x: np.ndarray,
    context: Mapping[str, Any] | None = None,
    *,
    call: Call = with_context,
) -> Pass:
    """Runs a PyTorch module there and back; see `of_flax`."""
    module = build()
    module.load_state_dict(
        {name: torch.tensor(value) for name, value in weights.items()}, assign=True
    )
    tensor = torch.tensor(x, requires_grad=bool(np.issubdtype(x.dtype, np.floating)))
    ctx = Context(
        **{
            key: torch.tensor(value) if isinstance(value, np.ndarray) else value
            for key, value in (context or {}).items()
        }
    )
    output = call(module, tensor, ctx)
    total = torch.sum(output * torch.tensor(cotangent_of(output)).to(output.dtype)) + ctx.sown.loss
    total.backward()
    gradients = {
        name: (torch.zeros_like(p) if p.grad is None else p.grad).numpy()
        for name, p in module.named_parameters()
    }
    if tensor.grad is not None:
        gradients["input"] = tensor.grad.numpy()
    return Pass(output.detach().numpy(), gradients, _flat(ctx.sown, lambda v: v.detach().numpy()))


def _flat(sown: Any, to_numpy: Callable[[Any], np.ndarray]) -> Arrays:
    return {
        **{f"report.{name}": to_numpy(value) for name, value in sown.report.items()},
        **{f"statistics.{name}": to_numpy(value) for name, value in sown.statistics.items()},
        **{f"values.{name}": to_numpy(value) for name, value in sown.values.items()},
    }


def assert_same(
    ours: Pass, other: Pass, *, values: float, gradients: float, record: Record | None = None
) -> None:
    """Asserts that two passes agree.

    Intermediate values are compared first, in the order of the layers, so that a failure names the
    first layer that differs.

    Args:
        ours: One, such as Flax's.
        other: The other, such as PyTorch's, which knows the layers' order; JAX sorts names.
        values: Tolerance of outputs and of what is sown, relative to the largest value.
        gradients: Tolerance of gradients, relative to the largest value of each, or to a hundredth
            of the largest of all: of one that is zero but for rounding, such as that of a bias of
            attention's keys, only the values that cancel in it have a size.
        record: pytest's `record_property`, which puts how far they are apart into the test's log.
    """
    assert ours.sown.keys() == other.sown.keys()
    sown = [
        _assert_close(ours.sown[name], value, values, name) for name, value in other.sown.items()
    ]
    output = _assert_close(ours.output, other.output, values, "output")
    assert ours.gradients.keys() == other.gradients.keys()
    largest = max((_size(value) for value in other.gradients.values()), default=0.0)
    there_and_back = [
        _assert_close(
            value, other.gradients[name], gradients, f"gradient of {name}", at_least=largest / 100
        )
        for name, value in ours.gradients.items()
    ]
    if record is not None:
        record("output", apart(output, values))
        record("what is sown", apart(max(sown, default=0.0), values))
        record("gradients", apart(max(there_and_back, default=0.0), gradients))


def apart(error: float, tolerance: float) -> str:
    """Returns an error as tables of the log have it, beside what is allowed."""
    return f"{error:.1e} of {tolerance:.0e}"


def _size(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))


def _assert_close(
    ours: np.ndarray, other: np.ndarray, tolerance: float, what: str, *, at_least: float = 0.0
) -> float:
    """Asserts that two arrays agree, and returns the largest difference, relative to the scale."""
    assert ours.shape == other.shape, f"{what}: {ours.shape} and {other.shape}"
    scale = max(_size(other), at_least, 1e-3)
    error = _size(ours.astype(np.float64) - other) / scale
    assert error <= tolerance, f"{what}: {error:.2e} > {tolerance:.0e}, relative to {scale:.2e}"
    return error
