"""Meshes of virtual CPU devices, for tests. Import it before JAX does anything."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.extend
from jax.sharding import AxisType, Mesh

MAX_DEVICES = 8

jax.config.update("jax_num_cpu_devices", MAX_DEVICES)


def make_mesh(**axes: int) -> Mesh:
    """Returns a mesh of virtual devices with axes of these sizes."""
    num_devices = 1
    for size in axes.values():
        num_devices *= size
    return jax.make_mesh(
        tuple(axes.values()),
        tuple(axes),
        axis_types=(AxisType.Auto,) * len(axes),
        devices=jax.devices("cpu")[:num_devices],
    )


def bytes_sent(function: Callable[..., Any], world_size: int, *args: Any) -> float:
    """Returns the bytes that each device sends in a call, summed over the traced collectives."""
    equations = _equations(jax.make_jaxpr(function)(*args).jaxpr)
    return sum(_equation_bytes(equation, world_size) for equation in equations)


def _equations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from _equations(inner)


def _equation_bytes(equation: Any, world_size: int) -> float:
    """Of the algorithms that send least: direct exchange, and rings for sums and gathers."""
    num_bytes = sum(
        x.aval.size * x.aval.dtype.itemsize for x in equation.invars if hasattr(x.aval, "size")
    )
    others = world_size - 1
    match equation.primitive.name:
        case "all_to_all" | "reduce_scatter":
            return num_bytes * others / world_size
        case "all_gather" | "all_gather_invariant":
            return num_bytes * others
        case "psum" | "psum_invariant":
            return 2 * num_bytes * others / world_size
        case "ppermute" | "pmax" | "pmin" | "ragged_all_to_all":
            raise AssertionError(f"unexpected {equation}")
    return 0.0
