"""Canonical weights to and from the Flax model."""

from collections.abc import Callable, Container, Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.architecture import Model
from models.weights import Weights, WeightsError, check_weights

# Where a weight is in the tree of modules, such as ("blocks", 0, "norm1", "scale").
ModulePath = tuple[Hashable, ...]

# Flax's leaf name -> the canonical one; the axes of a kernel are in another order too.
_LEAF_NAMES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}


def to_canonical(module: nnx.Module) -> Weights:
    """Copies the weights out of a module, bit for bit; statistics are among them."""
    state = nnx.to_flat_state(nnx.state(module, (nnx.Param, nnx.BatchStat)))
    return {
        _canonical_name(path): _outputs_first(path, np.array(param[...])) for path, param in state
    }


def from_canonical(model: Model, weights: Mapping[str, np.ndarray]) -> nnx.Module:
    """Builds the module of a model with a copy of `weights`, bit for bit.

    Raises:
        WeightsError: The weights do not belong to this model, or are float64 while JAX is in its
            default 32-bit mode, which would round them.
    """
    check_weights(model, weights)
    return load_weights(lambda: model.network.flax(model.config), weights)


def load_weights(build: Callable[[], nnx.Module], weights: Mapping[str, np.ndarray]) -> nnx.Module:
    """Builds a module, a network or a part of one, with a copy of `weights`, bit for bit.

    Args:
        build: Makes the module; of what it computes only shapes are used.
        weights: Canonical, exactly those of the module.

    Raises:
        WeightsError: They are float64 while JAX is in its default 32-bit mode.
    """
    abstract = nnx.eval_shape(build)
    graph, state = nnx.split(abstract)
    leaves = [
        (path, param.replace(_to_jax(_outputs_last(path, weights[_canonical_name(path)]))))
        for path, param in nnx.to_flat_state(state)
    ]
    return nnx.merge(graph, nnx.from_flat_state(leaves))


def load_traced(abstract: nnx.Module, weights: Mapping[str, jax.Array]) -> nnx.Module:
    """As `load_weights`, while a function of the weights is traced.

    Args:
        abstract: The module as `nnx.eval_shape` has it.
        weights: Canonical, exactly those of the module.
    """
    graph, state = nnx.split(abstract)
    leaves = []
    for path, param in nnx.to_flat_state(state):
        weight = weights[_canonical_name(path)]
        if path[-1] == "kernel":
            weight = jnp.moveaxis(weight, (0, 1), (-1, -2))
        leaves.append((path, param.replace(weight)))
    return nnx.merge(graph, nnx.from_flat_state(leaves))


def canonical_names(state: nnx.State[Any, Any]) -> list[str]:
    """Returns the canonical name of every leaf of a module's state."""
    return [_canonical_name(path) for path, _ in nnx.to_flat_state(state)]


def marked(state: nnx.State[Any, Any], names: Container[str]) -> nnx.State[Any, Any]:
    """Returns a module's state with a bool for each leaf: whether its canonical name is given."""
    leaves = [
        (path, param.replace(_canonical_name(path) in names))
        for path, param in nnx.to_flat_state(state)
    ]
    return nnx.from_flat_state(leaves)


def with_statistics(
    state: nnx.State[Any, Any], new: Mapping[str, jax.Array]
) -> nnx.State[Any, Any]:
    """Returns a module's state of statistics with new values.

    Args:
        state: Of all its `nnx.BatchStat`s.
        new: Some of them by canonical name, as networks sow them.
    """
    leaves = [
        (path, stat.replace(new[name]) if (name := _canonical_name(path)) in new else stat)
        for path, stat in nnx.to_flat_state(state)
    ]
    return nnx.from_flat_state(leaves)


def _canonical_name(path: ModulePath) -> str:
    *modules, leaf = (str(part) for part in path)
    return ".".join([*modules, _LEAF_NAMES.get(leaf, leaf)])


def _outputs_first(path: ModulePath, tensor: np.ndarray) -> np.ndarray:
    """Takes the axes of a kernel, [..., in, out], to those of PyTorch, [out, in, ...]."""
    if path[-1] != "kernel":
        return tensor
    return np.ascontiguousarray(np.moveaxis(tensor, (-1, -2), (0, 1)))


def _outputs_last(path: ModulePath, tensor: np.ndarray) -> np.ndarray:
    """Undoes `_outputs_first`."""
    if path[-1] != "kernel":
        return tensor
    return np.ascontiguousarray(np.moveaxis(tensor, (0, 1), (-1, -2)))


def _to_jax(tensor: np.ndarray) -> jnp.ndarray:
    array = jnp.array(tensor)
    if array.dtype != tensor.dtype:
        raise WeightsError(
            f"weights are {tensor.dtype} but JAX is in 32-bit mode; cast them to float32 or set "
            "jax_enable_x64"
        )
    return array
